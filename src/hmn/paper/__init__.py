"""The paper's experiments: its tables and its figure, repeated and judged (``hmn paper``)."""
