"""Tables of facts as their files give them: rows of three columns, wide tables, or RDF."""
