"""Memories of the last rows that they were given."""
