"""Random networks, and how many permutations leave them alone."""
