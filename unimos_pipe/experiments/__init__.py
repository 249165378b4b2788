"""Pairs, sweeps and their tables."""
