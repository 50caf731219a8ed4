"""Question answering whose cells lie on several ranks."""
