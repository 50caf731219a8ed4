"""``hmn serve``: what it promises, and how fast it is."""
