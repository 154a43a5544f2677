"""Pictures of attention, masks and training."""
