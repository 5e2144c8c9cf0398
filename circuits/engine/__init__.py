"""The exact fast engine: one lean forward that recomputes only what interventions can change."""
