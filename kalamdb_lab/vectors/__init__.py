"""Arithmetic on vectors in memory: codes, exact search, inverted lists. No files, no tables."""
