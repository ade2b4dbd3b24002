"""What is learnt: a user's own file, or one of the built-in problems. The command line calls a problem `--task`."""
