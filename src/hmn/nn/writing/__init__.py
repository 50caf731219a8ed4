"""Memories that a network writes while it reads them."""
