"""A run's folder, recipes, and the published figures beside them."""
