"""One measurement of a model per file; each returns one value per prompt."""
