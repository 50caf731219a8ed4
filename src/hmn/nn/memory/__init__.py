"""Memories: stored rows, or keys that an encoder makes."""
