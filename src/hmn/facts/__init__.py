"""Tables of facts and questions, read from files. Imports nothing of this package but its errors."""
