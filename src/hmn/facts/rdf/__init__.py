"""Facts and names from RDF: N-Triples, N-Quads, Turtle, TriG, RDF/XML and JSON-LD."""
