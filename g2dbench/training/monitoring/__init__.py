"""Monitoring of a training: held-out retrieval, contact sheets, warnings, trackers."""
