"""Metrics: pure functions of arrays; each docstring defines its metric."""
