"""Ablation studies: which arms there are, how they are run, and what the paper reports."""
