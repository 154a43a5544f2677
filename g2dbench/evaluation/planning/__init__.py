"""Many cells at once: suites (lists of rows in TOML files), and what cells will cost."""
