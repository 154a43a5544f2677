"""Pure functions of arrays; each metric is defined in its docstring."""
