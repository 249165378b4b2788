"""Import of features from files of other programs, and export to such files."""
