"""Training (stage two): batched runs, fitted methods, calibration runs, checkpoints and run recording."""
