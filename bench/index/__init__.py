"""The structures of ``hmn.index`` beside the libraries that people use today; ``python -m bench.index``."""
