"""Checks that a model keeps the contract of `g2dbench.model`, in words for its author."""
