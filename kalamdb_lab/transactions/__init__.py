"""Several statements as one commit."""
