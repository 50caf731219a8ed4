"""Wide tables: each row is an entity, each column a relation."""
