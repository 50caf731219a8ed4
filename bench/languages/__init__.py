"""Tables and questions in ten languages."""
