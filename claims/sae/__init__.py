"""Claims about the sae circuit."""
