"""Classification of findings: targets and losses, augmentation, predictions and their scores."""
