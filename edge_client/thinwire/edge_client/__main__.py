"""`python -m thinwire.edge_client`."""

from __future__ import annotations

from .cli import main

main()
