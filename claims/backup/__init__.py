"""Claims about the backup circuit."""
