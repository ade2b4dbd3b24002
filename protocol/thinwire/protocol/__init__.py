"""What is said between coordinator and edge clients; the normative text is `protocol/README.md`."""
