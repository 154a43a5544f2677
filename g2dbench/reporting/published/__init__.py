"""Published scores, and results of one's own beside them."""
