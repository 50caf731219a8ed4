"""Training a question-answering model."""
