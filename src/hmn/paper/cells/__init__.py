"""The memory cells of the paper's experiments."""
