"""The command line: options become specs, one call does the work, errors become one line and an exit code."""
