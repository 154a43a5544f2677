"""Readers of official layouts, one file each, and the packed store that everything reads."""
