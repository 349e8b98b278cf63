"""What a model costs its box: whole requests, first results, memory, energy, and how quiet the box was meanwhile."""
