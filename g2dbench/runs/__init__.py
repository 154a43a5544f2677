"""Training runs on disk: the folder, its checkpoints, its log."""
