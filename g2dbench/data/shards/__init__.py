"""Shards: Parquet or WebDataset files that training reads from a folder, S3 or http."""
