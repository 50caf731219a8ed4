"""Judging the paper's claims."""
