"""Commands that evaluate models."""
