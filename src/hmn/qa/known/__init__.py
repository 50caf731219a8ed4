"""Whether the answer to a question is in the table."""
