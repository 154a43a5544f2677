"""Broken and malicious input, one module per kind of file; `kit.BROKEN` has all cases by name."""
