"""Confidence intervals of single scores."""
