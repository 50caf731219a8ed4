"""Factoid question answering: a memory network that answers questions from a table of facts."""
