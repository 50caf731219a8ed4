"""Checkpoints of a training over several ranks."""
