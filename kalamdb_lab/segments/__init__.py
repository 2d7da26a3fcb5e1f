"""Segments: immutable files of rows, where they lie, what is known of them."""
