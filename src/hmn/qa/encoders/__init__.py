"""Encoders: from questions and facts to vectors."""
