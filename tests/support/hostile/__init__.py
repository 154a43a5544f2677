"""Broken and hostile input, by theme; `kit.BROKEN` has every case by name."""
