"""Claims of the TransformerLens main demo about running a model."""
