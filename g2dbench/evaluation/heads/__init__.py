"""Heads that a task fits on frozen features."""
