"""Measurements of g2dbench; a package, so that another of this name cannot hide it."""
