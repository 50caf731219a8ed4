"""From questions and facts to vectors."""
