"""Hints that something has changed: what is lost costs one look, never the truth."""
