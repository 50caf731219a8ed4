"""The built-in facts about the world, and the demonstration on them."""
