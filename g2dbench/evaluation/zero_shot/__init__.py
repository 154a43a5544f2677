"""What zero-shot tasks share: scores of prompts, a model's maps beside their ground truth."""
