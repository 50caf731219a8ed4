"""The paper's experiments: its tables and figure, run anew and judged (``hmn paper``)."""
