"""The moves of a run: each is one durable step, or none."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import structlog

from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.runs.definitions import Definitions
from thinwire.coordinator.runs.rows import RunCommand
from thinwire.coordinator.runs.standing import Move, People, Standing
from thinwire.coordinator.runs.waiting import why_missed, why_pending, why_waiting
from thinwire.coordinator.signals.signals import Signals
from thinwire.machine.workers import Workers
from thinwire.protocol.fields import RunOutcome, RunState

from .asking import Asking
from .clock import Clock
from .closing import Closing
from .current import Current, Led, Why
from .opening import Opening

_log = structlog.get_logger("thinwire.coordinator")
STANDS_S: Final = 2.0
"""A run that has stood for so long says why: most of what holds it up for less is on its way."""


class Moving:
    """For all runs that this process leads."""

    def __init__(
        self,
        runs: Runs,
        definitions: Definitions,
        opening: Opening,
        asking: Asking,
        closing: Closing,
        signals: Signals,
        workers: Workers,
        clock: Clock,
    ) -> None:
        self._runs = runs
        self._definitions = definitions
        self._opening = opening
        self._asking = asking
        self._closing = closing
        self._signals = signals
        self._workers = workers
        self._clock = clock

    def standing(self, led: Led, present: int | None, people: People | None) -> Standing:
        """Where the run stands. `present`, `people`: where somebody has looked since anything changed."""
        current = led.current
        newcomers = current is not None and (
            current.asked.newcomers is None
            or bool(current.asked.unasked)
            or bool(current.asked.newcomers and current.exchange.wanted)
        )
        return Standing(
            state=led.state,
            command=led.orders.command,
            resumed=led.orders.resumed,
            present=present,
            needed=led.definition.run.present,
            exchange=None if current is None else current.exchange,
            adding=current is not None and current.sum.adding > 0,
            newcomers=newcomers,
            people=people,
        )

    async def count_present(self, led: Led) -> int:
        """How many clients are there for the run."""
        return len(await self._asking.present(led))

    async def make(self, move: Move, led: Led) -> None:
        """Makes a move that changes something. Raises: `storage-failed`, `storage-full`, `CodecError`, `OSError`,
        `LeaseLostError`; then it can be made again.
        """
        current = led.current
        if move is Move.OBEY and led.orders.command is not None:
            await self._obey(led, led.orders.command)
        elif move is Move.BEGIN:
            await self._set_state(led, "running", None)
        elif move is Move.OPEN:
            await self._open(led)
        elif current is not None:
            if move is Move.OFFER:
                await self._asking.ask(led, current)
                return
            if move is Move.OFFER_AGAIN:
                await self._closing.offer_again(led, current)
            elif move is Move.CLOSE:
                await self._closing.advance(led, current)
            elif move is Move.MISS:
                await self._miss(led, current)
        self._signals.publish(f"events:{led.id}")

    async def explain(self, led: Led, present: int | None, wait_s: float) -> float:
        """Says why the run stands, where it does; how long to wait, at most `wait_s`. Raises as `make`."""
        current, why = led.current, None
        if led.state in ("paused", "finished") or led.orders.command is not None:
            return wait_s
        if led.state == "pending":
            why = why_pending(led.definition.run.present, present or 0)
        elif current is not None and not current.sum.adding:
            why = why_waiting(
                led.state,
                current.exchange,
                current.published.task.round,
                current.asked.declined,
                current.asked.left_out,
            )
        now = self._clock.monotonic()
        if why != led.why.comes:
            led.why.comes, led.why.since = why, now
        left_s = 0.0 if why is None else led.why.since + STANDS_S - now
        if why == led.why.said or left_s > 0:
            return min(wait_s, left_s) if why != led.why.said else wait_s
        await self._runs.set_state(led.lease, led.state, why, self._clock.wall())
        led.why.said = why
        self._signals.publish(f"events:{led.id}")
        return wait_s

    async def lapse(self, led: Led, current: Current) -> None:
        """Takes back what was offered to clients that are not there any more. Raises as `make`."""
        await self._asking.lapse(led, current)
        self._asking.on_another_day(current)

    async def people(self, led: Led, current: Current) -> People:
        """Whether anybody could still be asked, or come."""
        return await self._asking.people(led, current)

    async def release(self, led: Led) -> None:
        """Deletes what the exchanges that are over have left."""
        await self._closing.release(led)

    async def tidy(self, led: Led) -> None:
        """Deletes what a process that died has left of this run."""
        await self._closing.tidy(led)

    async def finish(self, led: Led, outcome: RunOutcome, reason: str | None) -> None:
        """The run is over. Raises as `make`."""
        await self._closing.finish(led, outcome, reason)

    async def _open(self, led: Led) -> None:
        ready, reason = await self._opening.prepare(led)
        if ready is None:
            await self._closing.finish(led, "completed", reason)
        else:
            await self._opening.open(led, ready)

    async def _obey(self, led: Led, command: str) -> None:
        what, _, drop = command.partition("-")
        if what == "stop":
            await self._closing.finish(led, "stopped", None)
            return
        if what == "resume":
            await self._take_in_settings(led)
            begun = led.index > 0 or led.current is not None
            await self._set_state(led, "running" if begun else "pending", None, obeyed="resume")
            led.orders.resumed = True
            if led.current is not None:
                led.current.asked.newcomers = None
            self._signals.publish(f"group:{led.definition.run.group}")
            return
        if drop and led.current is not None:
            await self._closing.offer_again(led, led.current, drop=True)
        await self._set_state(led, "paused", "by the operator", obeyed="pause-drop" if drop else "pause")

    async def _take_in_settings(self, led: Led) -> None:
        """What has been set otherwise while the run was paused. Cohort and method stay: the open exchange goes on."""
        row = await self._runs.get(led.id)
        led.definition = self._definitions.of(row)
        if led.current is not None:
            exchange, said = led.current.exchange, row.settings
            quorum = min(said.needed, exchange.policy.cohort)
            exchange.policy = replace(exchange.policy, quorum=quorum, deadline_s=said.deadline_s)

    async def _set_state(
        self, led: Led, state: RunState, reason: str | None, *, obeyed: RunCommand | None = None
    ) -> None:
        await self._runs.set_state(led.lease, state, reason, self._clock.wall(), obeyed=obeyed)
        _log.info(f"run {state}", run=led.definition.run.name, id=led.id, reason=reason)
        led.state, led.why = state, Why(reason)
        if obeyed is not None:
            # Another command may have taken its place: the row says.
            led.orders.command = (await self._runs.get(led.id)).command

    async def _miss(self, led: Led, current: Current) -> None:
        """The quorum was missed: the method goes on without, or the exchange is offered again, or the run pauses."""
        exchange = current.exchange
        if current.is_evaluation:
            await self._closing.close(led, current, lambda: led.method_state)
            return
        accepted = exchange.count("accepted")
        state = await self._workers.run(led.definition.server.give_up, led.method_state)
        if exchange.count("accepted") != accepted:
            return  # an answer came meanwhile: look again
        if state is not None:
            await self._closing.close(led, current, lambda: state)
        elif exchange.offers >= exchange.policy.max_offers:
            reason = why_missed(exchange, current.published.task.round, current.asked.declined)
            await self._set_state(led, "paused", reason)
        else:
            await self._closing.offer_again(led, current)
