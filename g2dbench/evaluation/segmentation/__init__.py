"""Segmentation of findings: masks as targets, losses, predictions and their scores."""
