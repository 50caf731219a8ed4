"""Facts that come and go after training: in the table, in the cells, and in the memory with its index."""
