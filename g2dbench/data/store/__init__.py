"""The prepared store: how it is built, what it holds, how it is verified."""
