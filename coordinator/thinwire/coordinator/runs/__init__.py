"""What a run is, as values and pure functions: no clock, no disk, no database."""
