"""How fast the sweeps are: beside TransformerLens, nnsight and plain forward passes, in one run.

Run by `ci/bench`; docs/speed.md explains the table. Not part of the tests, and not shipped.
"""
