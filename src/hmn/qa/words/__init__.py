"""How text is split into words, in every script."""
