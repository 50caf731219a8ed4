"""Facts that come after training: written into the memory, or trained into weights."""
