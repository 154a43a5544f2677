"""Can the bench tell, and do pseudo masks pay? A study for one GPU: `make gpu-study`."""
