"""Text towers of published models: BERT variants, tokenizers, words of reports."""
