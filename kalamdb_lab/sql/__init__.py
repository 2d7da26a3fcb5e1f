"""Text to typed statements: the text gate, the tokens, the one parse, the refusals by name."""
