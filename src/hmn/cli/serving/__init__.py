"""Commands of a served model: ``hmn serve`` and ``hmn compact``."""
