"""Commands for prepared data sets and cached features."""
