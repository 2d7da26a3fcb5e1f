"""Between storage values and Arrow."""
