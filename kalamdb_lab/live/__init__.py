"""Live queries: what changes is told to whoever asked for it."""
