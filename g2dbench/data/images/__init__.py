"""Image files: PNG, JPEG, TIFF and DICOM to one 8-bit grey picture."""
