"""Published image encoders without texts; a file is a plug-in, as in `baselines`."""
