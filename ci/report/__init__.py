"""The findings report: pages that are read from disk, made of runs and nothing else."""
