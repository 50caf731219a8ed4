"""What the hierarchy does with a memory that is read, and with one that changes."""
