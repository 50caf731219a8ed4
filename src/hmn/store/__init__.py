"""Saved folders (``bundle``): safetensors and JSON with checksums, written so that a crash loses nothing."""
