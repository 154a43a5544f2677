"""Published models of images and texts; a file is a plug-in, as in `baselines`."""
