"""Corrupted test images, and the encoder's features of them."""
