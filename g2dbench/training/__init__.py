"""The training loop that every pre-training method shares."""
