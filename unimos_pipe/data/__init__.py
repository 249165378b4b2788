"""What there is to adapt: data-set specs, manifests, list files, prompts, image decoding."""
