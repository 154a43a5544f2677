"""The report: one HTML file of leaderboards, plots and images that works without a network."""
