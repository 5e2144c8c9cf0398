"""Claims about the induction circuit."""
