"""Commands that read stored results: ranking, comparison, gate."""
