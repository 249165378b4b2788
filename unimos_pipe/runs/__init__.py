"""A run's identity, its folder and the one mean over runs; recipes, and the published figures beside them."""
