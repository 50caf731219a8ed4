"""Questions made from a table, for training without any or with few."""
