"""Factoid question answering: facts, questions about them, and a memory network that answers."""
