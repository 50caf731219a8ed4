"""Question answering in several hops: chains of facts, each read with what the one before found."""
