"""Tables of facts and questions, read from files."""
