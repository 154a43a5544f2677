"""What wrappers of published weights share: untrusted files, tokenizers, feature maps."""
