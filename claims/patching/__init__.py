"""Claims about patching."""
