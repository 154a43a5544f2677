"""Train, valid and test splits: stratified, published, and label fractions of a training set."""
