"""Devices without an invite that ask to be let in: what they are told, and what operators decide.

A device draws an invite for itself and shows its hash. Accepted, that invite is in force, and the device enrols with it
as with any: what it proves itself by has never been here before, and no secret of an operator is ever on the device.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from thinwire.coordinator.records.pending import Pending as PendingRows
from thinwire.coordinator.records.pending import Standing, Waiting
from thinwire.coordinator.signals.signals import Signals
from thinwire.protocol.messages import AcceptRequest, PendingAnswer, PendingList, PendingRequest, PendingView
from thinwire.protocol.reasons import ProblemError

LOOK_S: Final = 20.0
"""Without a hint for so long the rows are looked at: another process may have decided, and its hint may be lost."""
_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MEANT: Final = str.maketrans("ILO", "110", "- ")
_HALF: Final = 4
_log = structlog.get_logger("thinwire.coordinator")


class Pending:
    """`most`: devices that may wait at a time; 0: none may ask. `clock`: Unix seconds."""

    def __init__(
        self, rows: PendingRows, signals: Signals, *, most: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._rows = rows
        self._signals = signals
        self._most = most
        self._clock = clock

    async def ask(
        self,
        wanted: PendingRequest,
        address: str,
        wait_s: float,
        *,
        counted: Callable[[], None],
        hung_up: Callable[[], Awaitable[None]],
    ) -> PendingAnswer:
        """What has come of the request, or what it is after `wait_s`. `counted`: hears of each that is new. `hung_up`
        returns when the connection is gone.

        Raises: `not-allowed`, `too-many-requests`, `storage-failed`, `storage-full`.
        """
        if not self._most:
            raise ProblemError("not-allowed", "this coordinator lets nobody in without an invite")
        until = time.monotonic() + wait_s
        mine = f"pending:{wanted.invite.hex()[:16]}"
        with self._signals.subscribe(mine, "stop") as heard:
            drawn = "".join(secrets.choice(_DIGITS) for _ in range(2 * _HALF))
            found = await self._rows.ask(
                wanted.invite, drawn, wanted.name, wanted.says, address, self._clock(), self._most
            )
            if found.is_new:
                counted()
                _log.info("asks to be let in", client=wanted.name, address=address, code=_shown(drawn))
            gone = asyncio.ensure_future(hung_up())
            gone.add_done_callback(lambda _: self._signals.remind(mine))
            try:
                while found.code is not None and not gone.done() and (left_s := until - time.monotonic()) > 0:
                    if ("stop", "") in await heard.wait(min(left_s, LOOK_S)):
                        break
                    known = await self._rows.standing(wanted.invite, self._clock())
                    if known is None:
                        break
                    found = known
            finally:
                gone.cancel()
        return _answer(found)

    async def list(self) -> PendingList:
        """Who waits. Raises: `storage-failed`."""
        return PendingList(pending=[_view(one) for one in await self._rows.list(self._clock())])

    async def accept(self, code: str, wanted: AcceptRequest) -> PendingView:
        """The device may enrol. Raises: `not-found`, `name-taken`, `storage-failed`, `storage-full`."""
        found = await self._rows.accept(_meant(code), wanted.group, wanted.role, self._clock())
        _log.info("accepted", client=found.name, role=wanted.role, group=wanted.group, code=_shown(found.code))
        return self._decided(found)

    async def refuse(self, code: str) -> PendingView:
        """The device is not let in. Raises: `not-found`, `storage-failed`, `storage-full`."""
        found = await self._rows.refuse(_meant(code), self._clock())
        _log.info("not let in", client=found.name, code=_shown(found.code))
        return self._decided(found)

    def _decided(self, found: Waiting) -> PendingView:
        self._signals.publish(f"pending:{found.invite_hash.hex()[:16]}")
        return _view(found)


def _meant(code: str) -> str:
    """As people write it: small letters, without the hyphen, an O for a 0."""
    return code.upper().translate(_MEANT)[: 2 * _HALF + 1]


def _shown(code: str) -> str:
    return f"{code[:_HALF]}-{code[_HALF:]}"


def _answer(found: Standing) -> PendingAnswer:
    if found.accepted:
        return PendingAnswer(state="accepted")
    if found.code is None:
        return PendingAnswer(state="refused")
    return PendingAnswer(state="pending", code=_shown(found.code))


def _view(one: Waiting) -> PendingView:
    return PendingView(
        code=_shown(one.code), name=one.name, says=one.says, address=one.address, asked_at=one.asked_at,
        heard_at=one.heard_at,
    )  # fmt: skip
