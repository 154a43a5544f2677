"""From stored pairs to batches: augmentation, collation, loaders."""
