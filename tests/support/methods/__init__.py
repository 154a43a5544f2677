"""What the tests of pre-training methods share."""
