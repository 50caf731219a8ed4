"""Rows and columns from files of any known format."""
