"""Which rows queries may find, and search among those where they are few."""
