"""Pre-training methods, one file or folder each, found through the registry."""
