"""A hierarchy of groups of cells that learns where queries go."""
