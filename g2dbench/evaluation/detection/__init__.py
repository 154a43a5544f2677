"""Detection of findings: boxes as targets, detection heads, predictions and their scores."""
