"""Train, valid and test: our own split, drawn fractions, and published splits."""
