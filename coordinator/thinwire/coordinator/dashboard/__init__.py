"""The pages: rendered here, live by events; each is JSON, too, at its own address."""
