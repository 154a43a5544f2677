"""Readers of user data: annotated images, image-report pairs, Hugging Face data sets."""
