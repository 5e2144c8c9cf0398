"""Claims about guesses by gradient, and what they are worth."""
