"""Claims about the copy_suppression circuit."""
