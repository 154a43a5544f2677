"""Small files of image encoders."""
