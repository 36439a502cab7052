"""Numbers in, numbers out: gaps -> strength, spread, wrong probability, noise estimate; never a model."""
