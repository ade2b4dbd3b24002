"""A coordinator, as in its own tests, and what stands before it."""

from __future__ import annotations

from tests.coordinator.conftest import serve

__all__ = ["serve"]
