"""Claims about query interventions."""
