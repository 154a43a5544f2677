"""Readers of official data sets, one file or folder each, found through the registry."""
