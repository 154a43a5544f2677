"""Commands of the panel Extend."""
