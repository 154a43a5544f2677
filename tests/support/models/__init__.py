"""Small models, released files and golden numbers for tests of wrappers."""
