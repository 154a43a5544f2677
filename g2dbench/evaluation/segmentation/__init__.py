"""Segmentation: decoders, masks as training data, losses, predictions and scores."""
