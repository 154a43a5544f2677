"""Training an encoder together with a classification head."""
