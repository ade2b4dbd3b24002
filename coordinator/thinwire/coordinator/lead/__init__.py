"""What decides for a run: only the holder of its lease."""
