"""Strength -> flipped, smoothed, margined, dropped pairs, each change recorded beside its row."""
