"""Shared foundations: errors, options, files, devices, Ray and the terminal."""
