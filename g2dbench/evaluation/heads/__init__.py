"""Heads that tasks fit on frozen features."""
