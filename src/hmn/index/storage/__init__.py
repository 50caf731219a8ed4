"""What the structures keep their keys in."""
