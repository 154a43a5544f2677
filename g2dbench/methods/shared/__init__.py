"""Parts that several pre-training methods share."""
