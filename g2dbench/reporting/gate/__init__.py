"""The regression gate of scores: comparison, noise, formats."""
