"""Radiology reports: their sections, and cleaning them for a text encoder."""
