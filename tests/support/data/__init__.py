"""Helpers for tests of data sets: layouts, stores, shards, images."""
