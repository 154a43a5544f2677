"""Commands that train a model, or describe and export a trained one."""
