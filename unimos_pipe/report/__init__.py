"""Finished runs as tables, figures and one page."""
