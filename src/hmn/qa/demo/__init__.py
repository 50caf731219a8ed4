"""The demonstration: built-in facts about the world, questions about them, and a model on top."""
