"""The embedded radiographs: drawn images with reports, boxes and masks."""
