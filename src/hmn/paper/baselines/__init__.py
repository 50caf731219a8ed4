"""Systems beside the paper's network."""
