"""Servers that are asked over HTTP: with a key, at a pace, again where they are busy."""
