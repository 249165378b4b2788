"""Run folders, run specs and identities, recipes, statistics over runs, and published results."""
