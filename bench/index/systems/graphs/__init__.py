"""Graphs of neighbours: one adapter per library."""
