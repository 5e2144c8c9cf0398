"""What we believe: findings about models, each one an assertion with a source and controls."""
