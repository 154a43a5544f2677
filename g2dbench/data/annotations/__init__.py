"""Boxes and masks: shapes, run lengths, COCO files, and what resizing an image does to them."""
