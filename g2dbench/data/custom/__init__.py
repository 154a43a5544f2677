"""Readers of a user's own data: a folder with a table, image-report pairs, Hugging Face data."""
