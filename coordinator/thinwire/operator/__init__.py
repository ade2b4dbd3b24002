"""The operator's program: the command `thinwire`, which speaks HTTP with a coordinator."""
