"""Groups of commands in `g2dbench --help`."""

START = "Start here"
TRAIN = "Train"
EVALUATE = "Evaluate"
COMPARE = "Compare"
DATA = "Data"
LOOK = "Look"
EXTEND = "Extend"

PANELS = (START, TRAIN, EVALUATE, COMPARE, DATA, LOOK, EXTEND)
"""In the order in which the help lists them."""
