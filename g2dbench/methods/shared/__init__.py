"""What several pre-training methods share."""
