"""Training of a question-answering model."""
