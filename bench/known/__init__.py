"""How well a model knows whether the answer to a question is in its table."""
