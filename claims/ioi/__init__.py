"""Claims about the ioi circuit."""
