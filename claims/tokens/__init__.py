"""Claims about tokens: what prompts are made of."""
