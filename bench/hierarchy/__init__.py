"""Benchmarks of the hierarchy: over a memory that is read, and over one that changes."""
