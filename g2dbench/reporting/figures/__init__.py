"""Figures for papers from stored results, as SVG, PDF or PNG; matplotlib is an extra."""
