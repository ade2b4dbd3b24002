"""The way to the coordinator: sockets that count, requests that are repeated, bodies that go on where they stopped."""
