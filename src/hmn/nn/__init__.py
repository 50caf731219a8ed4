"""Memory networks: memory, reader, their loss, and the five parts together."""
