"""Claims about what is read off the weights, without running a prompt."""
