"""Saved folders, called bundles: safetensors and JSON with checksums, written so that no crash loses data."""
