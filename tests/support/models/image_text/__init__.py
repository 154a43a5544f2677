"""Small files of models of images and texts."""
