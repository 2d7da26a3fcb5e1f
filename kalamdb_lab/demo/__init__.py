"""``python -m kalamdb_lab.demo``: the whole way once, on real data."""
