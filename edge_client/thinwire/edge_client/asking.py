"""A client without an invite asks to be let in: it draws one itself, shows its hash, and waits until an operator has
put it in force.

The wait costs a request and a response each ten minutes at most, a few hundred bytes; quiet hours and the day's budget
hold for it as for everything else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from thinwire.protocol.messages import PendingAnswer, PendingRequest
from thinwire.protocol.reasons import ProblemError

from .console import Say
from .link.care import Care
from .link.polling import PollLength, was_held
from .link.replies import StrangerError
from .link.transfer import UNHEARD, Transfer
from .memory.folder import Folder
from .settings import UsageError

_PATH: Final = "/v1/pending"
_CURE: Final = "give an invite: --invite-file FILE, or THINWIRE_INVITE"


def ask_in(
    transfer: Transfer,
    folder: Folder,
    name: str,
    says: str,
    *,
    care: Care,
    say: Say,
    now_s: Callable[[], float],
) -> str:
    """The invite that an operator has put in force: known to this device alone until it enrols with it.

    Raises: `UsageError` where nobody is let in so, or this device is not; what a `Transfer` raises; `OverBudgetError`.
    """
    invite = folder.own_invite(transfer.address)
    request = PendingRequest(invite=hashlib.sha256(invite.encode()).digest(), name=name, says=says)
    polls, shown = PollLength(), ""
    wait_s = 0  # the code first
    while True:
        care.hold()
        answer = _poll(transfer, request, wait_s, polls, now_s)
        if answer is not None:
            if answer.state == "accepted":
                say(f"an operator of {transfer.address} has let this device in")
                return invite
            if answer.state == "refused":
                raise UsageError(f"an operator of {transfer.address} has refused to let this device in; {_CURE}")
            if answer.code and answer.code != shown:
                shown = answer.code
                say(f"no invite is given: asking {transfer.address} to let {name} in")
                say(f"code: {shown}. An operator who reads the same there accepts: thinwire client accept {shown}")
        wait_s = care.poll_s(polls.seconds)


def _poll(
    transfer: Transfer, request: PendingRequest, wait_s: int, polls: PollLength, now_s: Callable[[], float]
) -> PendingAnswer | None:
    """What the coordinator says now, or after `wait_s`; None where the connection did not last so long."""
    transfer.backend.keepalive_s = polls.keepalive_s

    def attempt() -> PendingAnswer | None:
        begun = now_s()
        try:
            path = f"{_PATH}?wait_s={wait_s}" if wait_s else _PATH
            _, answer, _ = transfer.ask("POST", path, PendingAnswer, request, patient_s=wait_s)
        except (*UNHEARD, StrangerError, ProblemError) as error:
            lived_s = min(now_s() - begun, wait_s)
            if not was_held(error, lived_s, known=transfer.known):
                raise
            polls.lost(lived_s)
            transfer.unheard(str(error))
            return None
        lived_s = now_s() - begun
        if wait_s and lived_s >= wait_s - 1:
            polls.held()
        elif wait_s:
            transfer.sleep(1.0)  # whatever ends the wait early is not asked in a circle
        return answer

    try:
        return transfer.persist(attempt)
    except ProblemError as error:
        if error.reason in ("not-found", "not-allowed"):
            why = "has no list of devices that wait" if error.reason == "not-found" else "lets nobody in without one"
            raise UsageError(f"this client has not enrolled, and {transfer.address} {why}; {_CURE}") from None
        raise
