"""The commands of `claimlens`, one a file: `add` describes its options, `run` does it."""
