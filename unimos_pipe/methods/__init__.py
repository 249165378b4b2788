"""Adaptation methods, and the types of their inputs and outputs."""
