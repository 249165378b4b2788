"""Metrics, calibration, validators and diagnostics of predictions."""
