"""Files behind put, local, delete, usage."""
