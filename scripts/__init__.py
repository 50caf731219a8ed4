"""Helpers of the project itself: the language check and the tree in CONTRIBUTING.md."""
