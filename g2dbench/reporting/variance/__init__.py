"""Where the spread of a metric comes from: seeds of several kinds, and the sampling of patients."""
