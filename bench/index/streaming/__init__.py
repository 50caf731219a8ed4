"""Inserts, deletes and searches in turn, by runbooks; ``python -m bench.index.streaming``."""
