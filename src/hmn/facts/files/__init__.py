"""Rows of named columns, read from files of any known format."""
