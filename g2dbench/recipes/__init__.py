"""Recipes: one TOML file each, read by `g2dbench.recipes.recipe`."""
