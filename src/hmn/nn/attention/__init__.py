"""Attention layers over a stored memory."""
