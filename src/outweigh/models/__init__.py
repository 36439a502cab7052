"""Backbones with a scalar head: bundled weights, loading, scoring, features, saving."""
