"""Groups of commands in `g2dbench --help`."""

START = "Start here"
TRAIN = "Train"
EVALUATE = "Evaluate"
COMPARE = "Compare"
DATA = "Data"
LOOK = "Look"

PANELS = (START, TRAIN, EVALUATE, COMPARE, DATA, LOOK)
"""In the order in which the help lists them."""
