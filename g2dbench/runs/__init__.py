"""Training runs on disk: the run folder, its checkpoints and its logs."""
