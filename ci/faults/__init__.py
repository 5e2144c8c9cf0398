"""Faults made on purpose, counted: what `ci/torture` does and docs/reliability.md reports."""
