"""One run of the paper's network."""
