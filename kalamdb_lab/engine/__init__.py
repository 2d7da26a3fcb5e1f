"""Wiring, pipeline and session of one open database."""
