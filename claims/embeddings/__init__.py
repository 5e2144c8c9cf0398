"""Claims about what later layers read at a token."""
