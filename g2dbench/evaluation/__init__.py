"""Evaluate a model on a task: features, fitted heads, predictions, scores, results."""
