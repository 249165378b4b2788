"""What everything stands on: errors, options, files, devices, Ray, the terminal."""
