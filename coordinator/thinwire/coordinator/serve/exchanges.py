"""What never changes of an exchange, for everybody who answers for it: kind, broadcast, small payloads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from thinwire.coordinator.objects.objects import Objects, payload
from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.runs.broadcast import Form, names_of
from thinwire.machine.workers import Workers
from thinwire.protocol.messages import MAX_INLINE_BYTES

MOST_KNOWN: Final = 128
"""Exchanges that are remembered: of each open run two are asked for."""


@dataclass(frozen=True, slots=True)
class ExchangeFacts:
    """`names`: part -> digest of its full form. `small`: digest -> bytes of the forms that may travel in a message;
    None of an exchange that is closed. `plan`: its digest.
    """

    kind: str
    parts: list[Any]
    names: Mapping[str, bytes]
    small: Mapping[bytes, bytes] | None
    plan: bytes

    @property
    def grows(self) -> bool:
        """Whether any of its parts may be sent as what came since."""
        return any(len(part) > 4 for part in self.parts)


class ExchangeBook:
    """Looks each exchange up once."""

    def __init__(self, exchanges: Exchanges, objects: Objects, workers: Workers) -> None:
        self._exchanges = exchanges
        self._objects = objects
        self._workers = workers
        self._known: OrderedDict[tuple[str, int], ExchangeFacts] = OrderedDict()

    async def find(self, run: str, exchange: int) -> ExchangeFacts | None:
        """None where there is no such exchange. Raises: `storage-failed`, `OSError` (a payload cannot be read)."""
        key = run, exchange
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        row = await self._exchanges.get(run, exchange)
        if row is None:
            return None
        small: dict[bytes, bytes] | None = None
        if not row.closed:
            forms = [form for form in _forms(row.parts) if form.size <= MAX_INLINE_BYTES]
            small = await self._workers.run(self._read, run, forms) if forms else {}
        facts = ExchangeFacts(row.kind, row.parts, names_of(row.parts), small, row.plan)
        self._known[key] = facts
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return facts

    async def max_payload_bytes(self, run: str, exchange: int) -> int | None:
        """Of an answer; None where the exchange is not open. Raises: `storage-failed`."""
        return await self._exchanges.takes_up_to(run, exchange)

    def _read(self, run: str, forms: list[Form]) -> dict[bytes, bytes]:
        return {form.digest: self.read(run, form.digest) for form in forms}

    def read(self, run: str, digest: bytes) -> bytes:
        """In a thread: a payload of the run, which is small. Raises: `OSError`."""
        return self._objects.local(payload(run, digest)).read_bytes()


def _forms(parts: list[Any]) -> list[Form]:
    return [Form.from_plain(plain) for part in parts for plain in part[2:4] if plain is not None]
