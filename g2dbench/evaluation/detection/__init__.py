"""Detection: heads, boxes as training data, predictions and scores."""
