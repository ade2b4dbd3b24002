"""The leader of one run: looks at where it stands, makes the next move, and listens until there is another.

Whatever computes or writes files runs in a thread. What others are to know lies in rows first; a signal says only that
there is something to look at.
"""

from __future__ import annotations

import structlog

from thinwire.codecs import CodecError
from thinwire.coordinator.objects.problems import storage_problem
from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.leases import Lease, LeaseLostError
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.records.troubles import Troubles
from thinwire.coordinator.runs.standing import LOOK_S, Move, People, next_move
from thinwire.coordinator.signals.signals import Signals, Subscription
from thinwire.protocol.reasons import ProblemError

from .clock import Clock
from .current import Led
from .hearing import RETRY_S, Hearing
from .moving import Moving
from .restoring import Restoring

_LONGEST_REASON = 1000
_FIRST = (Move.OPEN, Move.OFFER)
"""Clients wait for these; what an exchange has left is deleted when they have heard of the next one."""
_log = structlog.get_logger("thinwire.coordinator")


class Leader:
    """Leads one run from where its rows say it stands to its end. `led`: once it has been taken up. `epoch`: of
    its lease.
    """

    def __init__(
        self,
        lease: Lease,
        runs: Runs,
        exchanges: Exchanges,
        troubles: Troubles,
        restoring: Restoring,
        hearing: Hearing,
        moving: Moving,
        signals: Signals,
        clock: Clock,
    ) -> None:
        self.run, self.epoch = lease.run, lease.epoch
        self.led: Led | None = None
        self._lease = lease
        self._runs = runs
        self._exchanges = exchanges
        self._troubles = troubles
        self._restoring = restoring
        self._hearing = hearing
        self._moving = moving
        self._signals = signals
        self._clock = clock
        self._failed = ""
        self._present: int | None = None
        self._people: People | None = None

    async def lead(self) -> None:
        """Ends when the run is finished, or the lease lost."""
        with self._signals.subscribe(f"run:{self.run}") as heard:
            try:
                led = self.led = await self._take_up(heard)
                if led is not None:
                    await self._moving.tidy(led)
                while led is not None and not led.finished:
                    self._hearing.listen_for_people(led, heard)
                    wait_s = await self._go_on(led)
                    if wait_s > 0 and not led.finished:
                        self._hearing.note(await heard.wait(wait_s), led)
            except LeaseLostError as error:
                _log.warning("the run is led elsewhere", run=self.run, why=str(error))
            finally:
                await self._hearing.close()

    async def look(self, led: Led) -> float:
        """Takes in what has changed and makes one move; the seconds to wait for something to happen, 0 for nothing.

        Raises: `storage-failed`, `storage-full`, `CodecError`, `OSError`, `LeaseLostError`.
        """
        await self._hearing.take_in(led)
        if led.state == "running" and led.current is not None:
            await self._moving.lapse(led, led.current)
        present, people = self._present, self._people
        self._present = self._people = None
        move, wait_s = next_move(self._moving.standing(led, present, people), self._clock.monotonic())
        if move not in _FIRST:
            await self._moving.release(led)
        if move is Move.COUNT_PRESENT:
            self._present = await self._moving.count_present(led)
        elif move is Move.LOOK_FOR_PEOPLE and led.current is not None:
            self._people = await self._moving.people(led, led.current)
        elif move is not Move.WAIT:
            await self._moving.make(move, led)
        if move is Move.WAIT:
            wait_s = await self._moving.explain(led, present, wait_s)
        if move is not Move.OBEY and led.current is not None:
            led.orders.resumed = False
        return wait_s

    async def save_clock(self) -> None:
        """What is left of the open offer outlives the process from now on. Raises: `storage-failed`, `storage-full`,
        `LeaseLostError`.
        """
        if self.led is None or (current := self.led.current) is None:
            return
        now, due_at = self._clock.monotonic(), current.exchange.due_at
        left_s = None if due_at is None else max(0.0, due_at - now)
        wall = self._clock.wall()
        await self._exchanges.save_clocks(self._lease, current.index, now - current.opened_at, left_s, wall)

    async def _go_on(self, led: Led) -> float:
        """Looks; a failed write is tried again, a failed computation ends the run."""
        try:
            if self._failed:
                await self._moving.finish(led, "failed", self._failed)
                return 0.0
            wait_s = await self.look(led)
            self._trouble(None)
        except (ProblemError, OSError) as error:
            problem = error if isinstance(error, ProblemError) else storage_problem(error)
            _log.error("run cannot go on", run=self.run, reason=problem.reason, detail=problem.detail)
            self._trouble(problem)
            return RETRY_S
        except CodecError as error:
            self._failed = f"{error.reason}: {error.detail}"
            return 0.0
        except LeaseLostError:
            raise
        except Exception:
            _log.exception("defect", run=self.run)
            wait_s = RETRY_S if self._failed else 0.0
            self._failed = "internal: a defect of the method or the coordinator; see its log"
        return wait_s

    def _trouble(self, problem: ProblemError | None) -> None:
        if self._troubles.note(self.run, "exchange", problem):
            self._signals.publish(f"events:{self.run}")

    # -- taking it up -----------------------------------------------------------------------------------------

    async def _take_up(self, heard: Subscription) -> Led | None:
        """The run as it was left. Where something of it is damaged it is paused, with what is wrong as its reason,
        until `resume` finds it whole; None where it is stopped instead.
        """
        while True:
            try:
                row = await self._runs.get(self.run)
                if row.command is not None and row.damaged and row.command.startswith("stop"):
                    await self._runs.finish(self._lease, "stopped", row.reason, None, self._clock.wall())
                    self._publish_end(row.group)
                    return None
                if not row.damaged or row.command == "resume":
                    led = await self._restoring.restore(row, self._lease)
                    if row.damaged:
                        await self._whole_again(led)
                    return led
            except (ProblemError, CodecError, OSError) as error:
                await self._damaged(error)
            await heard.wait(LOOK_S)

    async def _whole_again(self, led: Led) -> None:
        state = led.state = "running" if led.index > 0 or led.current is not None else "pending"
        await self._runs.set_state(self._lease, state, None, self._clock.wall(), obeyed="resume", damaged=False)
        led.orders.command, led.orders.resumed = None, True
        self._signals.publish(f"group:{led.definition.run.group}")
        self._signals.publish(f"events:{self.run}")

    async def _damaged(self, error: ProblemError | CodecError | OSError) -> None:
        what = str(error) if isinstance(error, OSError) else error.detail
        _log.error("run cannot be restored", run=self.run, error=str(error))
        reason = f"storage-failed: {what}; restore it from a backup and resume the run, or stop it"[:_LONGEST_REASON]
        try:
            now = self._clock.wall()
            await self._runs.set_state(self._lease, "paused", reason, now, obeyed="resume", damaged=True)
        except ProblemError as problem:
            self._trouble(problem)
        self._signals.publish(f"events:{self.run}")

    def _publish_end(self, group: str) -> None:
        self._signals.publish(f"group:{group}")
        self._signals.publish(f"events:{self.run}")
