"""Leaderboards, paired comparisons and the score gate, from stored results alone."""
