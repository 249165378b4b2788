"""UniMoS as a two-stage feature-cache pipeline: encode with frozen CLIP once, adapt from the cache in seconds."""

__version__ = "0.1.0"
