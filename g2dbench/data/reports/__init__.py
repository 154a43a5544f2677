"""Radiology reports: sections, cleaning, and the text that an encoder reads."""
