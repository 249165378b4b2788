"""Experiments: pairs, sweeps, dry runs and results tables."""
