"""Predictions that were made elsewhere, as results like all others."""
