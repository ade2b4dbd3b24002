"""Bytes on the wire as one value: of a request, a row of the ledger, or any sum of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes by direction, payload and framing apart; `requests` that carried them and the `seconds` these took.

    `resumed`: payload that did not cross again, since an interrupted request had carried it. Values add up with `+`; a
    difference of two may be negative.
    """

    requests: int = 0
    uplink_payload: int = 0
    uplink_framing: int = 0
    downlink_payload: int = 0
    downlink_framing: int = 0
    resumed: int = 0
    seconds: float = 0.0

    def __add__(self, other: Bytes) -> Bytes:
        return Bytes(
            self.requests + other.requests,
            self.uplink_payload + other.uplink_payload,
            self.uplink_framing + other.uplink_framing,
            self.downlink_payload + other.downlink_payload,
            self.downlink_framing + other.downlink_framing,
            self.resumed + other.resumed,
            self.seconds + other.seconds,
        )

    def __sub__(self, other: Bytes) -> Bytes:
        return Bytes(
            self.requests - other.requests,
            self.uplink_payload - other.uplink_payload,
            self.uplink_framing - other.uplink_framing,
            self.downlink_payload - other.downlink_payload,
            self.downlink_framing - other.downlink_framing,
            self.resumed - other.resumed,
            self.seconds - other.seconds,
        )

    @property
    def uplink(self) -> int:
        """Wire bytes from clients to the coordinator."""
        return self.uplink_payload + self.uplink_framing

    @property
    def downlink(self) -> int:
        """Wire bytes from the coordinator to clients."""
        return self.downlink_payload + self.downlink_framing

    @property
    def payload(self) -> int:
        """Payload bytes in both directions."""
        return self.uplink_payload + self.downlink_payload

    @property
    def framing(self) -> int:
        """All that is not payload, in both directions."""
        return self.uplink_framing + self.downlink_framing

    @property
    def wire(self) -> int:
        """All bytes in both directions."""
        return self.uplink + self.downlink

    @staticmethod
    def sum(values: Iterable[Bytes]) -> Bytes:
        """All of them together; nothing for none."""
        return sum(values, Bytes())
