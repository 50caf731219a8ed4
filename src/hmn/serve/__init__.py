"""Serving a model whose facts change: a journal of writes beside the bundle, and the model over both."""
