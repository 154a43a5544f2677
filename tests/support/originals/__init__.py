"""Published models, compared with the code of their authors.

Each module describes one model: `state()` restates the layout of its file, with seeded weights;
`write(folder)` writes a source for our wrapper; `original(checkout)` runs the authors' code, read
from a folder outside this project, on the same weights; `ours(model)` calls our wrapper. Both give
the same names of results. `python -m support.originals.write_golden NAME` stores a part of the
authors' results, which `tests/baselines/test_originals.py` compares on every machine.
"""
