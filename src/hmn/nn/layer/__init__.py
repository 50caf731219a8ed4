"""A memory in place of a feed-forward block of a Transformer."""
