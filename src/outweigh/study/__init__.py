"""A grid of runs -> one table: what helps, where, by how much, at what cost."""
