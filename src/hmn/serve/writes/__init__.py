"""What a write is, what several come to, and who may write."""
