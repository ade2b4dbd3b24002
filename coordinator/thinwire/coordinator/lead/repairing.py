"""Payloads of the open exchange and the one before, as objects; what the disk has damaged is made again where its
making is known.
"""

from __future__ import annotations

import structlog

from thinwire.codecs import Spec
from thinwire.coordinator.objects.broadcasts import is_whole, read_broadcast
from thinwire.coordinator.objects.objects import Objects, payload
from thinwire.coordinator.objects.states import read_state
from thinwire.coordinator.runs.broadcast import Broadcast, names_of, publish_task
from thinwire.coordinator.runs.rows import ExchangeRow
from thinwire.methods.values import EVALUATE, State, Task
from thinwire.protocol.encoding import encode_message
from thinwire.protocol.reasons import ProblemError

from .current import Led, Published

_log = structlog.get_logger("thinwire.coordinator")


class Repairing:
    """In a worker thread."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def state(self, run: str, exchange: int, epoch: int | None) -> State:
        """The state before an exchange. Raises: `CodecError` (damaged), `OSError`."""
        return read_state(self._objects, run, exchange, epoch)

    def broadcast_before(self, led: Led, row: ExchangeRow) -> Broadcast:
        """The broadcast of the exchange before the one that is open or comes next; what is damaged is made again from
        the checkpoint before it, if no base was lost in it. Raises: `storage-failed`, `CodecError`, `OSError`.
        """
        try:
            return read_broadcast(self._objects, led.definition, row)
        except ProblemError as error:
            server, state = led.definition.server, self.state(led.id, row.exchange, row.state_epoch)
            task = server.evaluation(state) if row.kind == EVALUATE else server.task(state)
            if task is None:
                raise
            return self._made_again(led, row, task, None, error)

    def older(self, led: Led, row: ExchangeRow, reply: Spec) -> Published:
        """What an earlier exchange of an asynchronous run sent, as far as decoding an answer needs it. `reply`: of all
        its exchanges. Raises as `read_broadcast`.
        """
        chains = led.definition.chains(row.kind, row.lowered_bits)
        broadcast = read_broadcast(self._objects, led.definition, row) if chains.up.needs_reference else Broadcast({})
        task = Task(row.round, row.step, row.kind, {}, reply, options=row.options or {})
        return Published(task, chains, row.plan, broadcast, led.lineage)

    def opened_broadcast(self, led: Led, row: ExchangeRow, task: Task) -> Broadcast:
        """The broadcast of the open exchange, and its plan as an object; what is damaged is made again.

        Raises: `storage-failed`, `CodecError`, `OSError`.
        """
        definition = led.definition
        try:
            broadcast = read_broadcast(self._objects, led.definition, row)
        except ProblemError as error:
            base = (
                led.predecessor.broadcast
                if definition.chains(row.kind, row.lowered_bits).down.needs_reference
                else None
            )
            broadcast = self._made_again(led, row, task, base, error)
        if not is_whole(self._objects, led.id, row.plan):
            _log.warning("the plan is made again", run=led.id, exchange=row.exchange)
            specs = {name: part.spec for name, part in broadcast.parts.items()}
            self._replace(led.id, row.plan, encode_message(definition.plan(task, specs, row.lowered_bits)))
            if not is_whole(self._objects, led.id, row.plan):
                raise ProblemError("storage-failed", f"the plan {row.plan.hex()} of exchange {row.exchange} is damaged")
        return broadcast

    def _made_again(
        self, led: Led, row: ExchangeRow, task: Task, base: Broadcast | None, error: ProblemError
    ) -> Broadcast:
        """Raises: the error where what is made is not what was."""
        _log.warning("a payload is made again", run=led.id, error=error.detail)
        chains = led.definition.chains(row.kind, row.lowered_bits)

        def keep(digest: bytes, data: bytes) -> None:
            self._replace(led.id, digest, data)

        broadcast = publish_task(task, chains, led.definition.run.seed, base, keep)
        if broadcast.names != names_of(row.parts):
            raise error
        return broadcast

    def _replace(self, run: str, digest: bytes, data: bytes) -> None:
        """The object is there and whole from now on."""
        if not is_whole(self._objects, run, digest):
            self._objects.delete([payload(run, digest)])
            self._objects.put(payload(run, digest), data, durable=True)
