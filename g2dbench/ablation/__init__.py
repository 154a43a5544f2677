"""Ablation studies: their arms, how to run them, and the published values."""
