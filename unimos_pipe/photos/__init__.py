"""Photos of a finished run: sorted into folders, and reviewed in a browser."""
