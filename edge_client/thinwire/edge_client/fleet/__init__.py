"""`thinwire-client fleet`: many clients in few processes, each with a name, data and a link of its own."""
