"""Pictures of the report for the documentation; in the repository alone."""
