"""Data sets: specs, manifests, list files, prompts, image decoding."""
