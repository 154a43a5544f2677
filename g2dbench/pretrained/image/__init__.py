"""Image towers of published models, and their feature maps and preprocessing."""
