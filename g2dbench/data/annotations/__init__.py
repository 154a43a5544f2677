"""Boxes and masks: shapes, run lengths, COCO files, and their mapping to a resized image."""
