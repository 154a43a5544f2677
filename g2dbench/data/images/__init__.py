"""Image files: PNG, JPEG, TIFF, GIF and DICOM are read as 8-bit gray images."""
