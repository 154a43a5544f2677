"""Shared by the wrappers of published weights: untrusted files, tokenizers, feature maps."""
