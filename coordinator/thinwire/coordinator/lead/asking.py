"""Asking clients: who is there, who gets a slot, and what a task holds for one client alone."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from thinwire.codecs import Spec
from thinwire.coordinator.objects.objects import Objects, payload
from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.presence import Presence
from thinwire.coordinator.records.tasks import NewTask, Tasks
from thinwire.coordinator.runs.exchange import Slot
from thinwire.coordinator.runs.standing import People
from thinwire.coordinator.signals.signals import Signals
from thinwire.machine.workers import Workers
from thinwire.methods.server_half import ServerHalf
from thinwire.protocol.identity import client_seed

from .budgets import Budgets
from .clock import Clock
from .current import Current, Led

LAPSE_S: Final = 30.0
"""Whoever has been asked for so long and is not heard of has not been told: a poll that waits is answered at once."""


class Asking:
    """`present_for_s`: a client counts as present this long after its last request."""

    def __init__(
        self,
        exchanges: Exchanges,
        tasks: Tasks,
        presence: Presence,
        budgets: Budgets,
        objects: Objects,
        signals: Signals,
        workers: Workers,
        clock: Clock,
        present_for_s: float,
    ) -> None:
        self._exchanges = exchanges
        self._tasks = tasks
        self._presence = presence
        self._budgets = budgets
        self._objects = objects
        self._signals = signals
        self._workers = workers
        self._clock = clock
        self._present_for_s = present_for_s

    async def present(self, led: Led, names: set[str] | None = None) -> set[str]:
        """The clients that could be asked now, busy ones included; of these names, or of all."""
        definition = led.definition
        since = self._clock.wall() - self._present_for_s
        return await self._presence.present(definition.run.group, definition.spec, led.roles, since, names)

    async def _free(self, led: Led, names: set[str] | None) -> set[str]:
        """As `present`, without those that are busy."""
        definition = led.definition
        since = self._clock.wall() - self._present_for_s
        return await self._presence.free(definition.run.group, definition.spec, led.roles, since, names, led.id)

    async def people(self, led: Led, current: Current) -> People:
        """Whether anybody who is there, or could ever come, may still be asked."""
        definition, exchange = led.definition, current.exchange
        there = await self.present(led)
        askable = bool(exchange.wanted and exchange.eligible(there - current.asked.left_out.keys()))
        if askable or exchange.policy.same:
            return People(askable, reachable=False)
        members = await self._presence.members(definition.run.group, definition.spec, led.roles)
        return People(askable, reachable=bool(exchange.eligible(members)))

    async def ask(self, led: Led, current: Current) -> None:
        """Gives tasks to as many newcomers as are wanted, and to a given cohort; told when the database has them.

        Raises: `storage-failed`, `storage-full`, `CodecError`, `OSError`; then nobody has been asked.
        """
        asked = current.asked
        names, asked.newcomers = asked.newcomers, set()
        try:
            if current.exchange.wanted:
                free = await self._free(led, names)
                added = current.exchange.offer(free - await self._left_out(led, current, free, names is None))
                asked.unasked += [slot.index for slot in added]
            slots = [current.exchange.slot(index) for index in asked.unasked]
            await self._offer(led, current, [slot for slot in slots if slot.state == "open"])
            asked.unasked.clear()
        except BaseException:
            asked.newcomers = None  # some of them may have been considered, others not
            raise

    async def _left_out(self, led: Led, current: Current, free: set[str], everybody: bool) -> set[str]:
        """Those of the free clients whom a budget of theirs keeps from being asked; the row says so. A cohort that is
        given finishes what it has begun. `everybody`: who is not among them is not left out any more.
        """
        asked = current.asked
        if current.exchange.policy.same:
            return set()
        found = await self._budgets.left_out(led, current, free)
        kept = {} if everybody else {name: why for name, why in asked.left_out.items() if name not in free}
        now_out = kept | found
        if now_out != asked.left_out:
            await self._exchanges.leave_out(led.lease, current.index, now_out, self._clock.wall())
            self._signals.publish(f"events:{led.id}")
        asked.left_out, asked.left_out_on = now_out, self._budgets.today()
        return set(found)

    def on_another_day(self, current: Current) -> None:
        """Whoever is left out may be asked when a day, or a month, has begun."""
        if current.asked.left_out and current.asked.left_out_on != self._budgets.today():
            current.asked.newcomers = None

    async def _offer(self, led: Led, current: Current, slots: list[Slot]) -> None:
        if not slots:
            return
        private: dict[str, list[Any]] = {}
        if type(led.definition.server).private is not ServerHalf.private:
            private = await self._workers.run(self._make_private, led, current, slots)
        new = [
            NewTask(current.id_of(slot), slot.index, slot.offer, slot.client, private.get(slot.client))
            for slot in slots
        ]
        shut_out = await self._tasks.offer(led.lease, current.index, new)
        for slot in slots:
            task = current.know(slot)
            if slot.client in shut_out:
                # Revoked while this exchange was being made, or before a given cohort was asked again.
                current.exchange.lose(slot.client)
                del current.asked.slot_by_task[task]
            else:
                current.asked.unheard.pop(slot.client, None)
                current.asked.unheard[slot.client] = self._clock.wall()
                self._signals.publish(f"client:{slot.client}")

    async def lapse(self, led: Led, current: Current) -> None:
        """Takes back the slots of clients that were asked a while ago and never heard of it: they are not there any
        more, until they are heard. Raises: `storage-failed`, `storage-full`, `LeaseLostError`.
        """
        now, unheard = self._clock.wall(), current.asked.unheard
        # The first was asked first: a look costs nothing while its time is not up.
        if now < current.asked.lapse_at or now - next(iter(unheard.values()), now) < LAPSE_S:
            return
        due = {name: at for name, at in unheard.items() if now - at >= LAPSE_S}
        tasks = {name: current.id_of(slot) for name in due if (slot := current.exchange.open_slot(name)) is not None}
        lapsed = await self._tasks.lapse(led.lease, {tasks[name]: at for name, at in due.items() if name in tasks})
        for name in due:
            del unheard[name]
            if name in tasks and tasks[name] in lapsed:
                current.exchange.lapse(name)
                del current.asked.slot_by_task[tasks[name]]
                self._signals.publish(f"task:{tasks[name]}")
                current.asked.newcomers = None

    def _make_private(self, led: Led, current: Current, slots: list[Slot]) -> dict[str, list[Any]]:
        """In a thread: client -> digest in hex, size and spec of the part for it alone, where it has one."""
        settings, task, made = led.definition.run, current.published.task, {}
        for slot in slots:
            arrays = led.definition.server.private(led.method_state, task, slot.client)
            if arrays is None:
                continue
            spec = Spec.of(arrays)
            seed = client_seed(settings.seed, task.round, task.step, slot.client)
            data = current.published.chains.private.encode(arrays, spec, seed=seed)
            digest = hashlib.sha256(data).digest()
            self._objects.put(payload(led.id, digest), data, durable=True)
            made[slot.client] = [digest.hex(), len(data), spec.to_plain()]
        return made
