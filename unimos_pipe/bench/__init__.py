"""Benchmarks of stage one, the feature store and stage two."""
