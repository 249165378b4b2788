"""What is measured: stage one, the store, stage two."""
