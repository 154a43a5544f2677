"""A third party's package with a model and a task for g2dbench."""
