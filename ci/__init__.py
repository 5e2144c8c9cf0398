"""What follows from a run: outcomes, what is printed, what is stored."""
