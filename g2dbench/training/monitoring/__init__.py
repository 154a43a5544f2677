"""What is watched while training runs: held-out scores, warnings, trackers."""
