"""A memory layer beside product keys: time, memory and recall of a training step, and a language model."""
