"""One memory over several processes: what is promised, and what it costs."""
