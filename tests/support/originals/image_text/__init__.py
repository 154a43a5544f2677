"""Originals of the models of `baselines/image_text`."""
