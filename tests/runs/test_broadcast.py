"""What a client is sent of parts that grow: what it lacks, whichever exchange it was there last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from thinwire.codecs import Arrays, ArraySpec, Open, Spec
from thinwire.coordinator.runs.broadcast import Broadcast, grown, names_of, part_messages, publish_task
from thinwire.methods.arrays import same_bits
from thinwire.methods.chains import Chains
from thinwire.methods.payloads import receive
from thinwire.methods.values import Task

CHAINS = Chains.parse(down="append")
SPEC = Spec({"rows": ArraySpec("f32", (Open(100), 4))})
ROWS = np.random.default_rng(0).standard_normal((100, 4)).astype("<f4")
FIXED = {"w": np.arange(9, dtype="<f4")}


class Stored:
    """Broadcasts of histories of so many rows, as the rows of their exchanges keep them."""

    def __init__(self, *lengths: int) -> None:
        self.payloads: dict[bytes, bytes] = {}
        self.plain: list[list[Any]] = []
        before: Broadcast | None = None
        for round_, length in enumerate(lengths, 1):
            parts: Mapping[str, Arrays] = {"start": FIXED, "history": {"rows": ROWS[:length]}}
            task = Task(round_, 0, "train", parts, Spec(), specs={"history": SPEC})
            before = publish_task(task, CHAINS, 0, before, self.payloads.__setitem__)
            self.plain.append(before.to_plain())

    def sent(self, index: int, held: int | None, *, first: bool = False) -> dict[str, Any]:
        """Part -> its message to a client that holds the parts of this older exchange, or nothing."""
        older = None if held is None else self.plain[held]
        since = {} if older is None else grown(self.plain[index], older, self.payloads.__getitem__)
        messages = part_messages(
            self.plain[index],
            {} if older is None else names_of(older),
            is_previous=held == index - 1,
            inline=True,
            first=first,
            content=self.payloads.__getitem__,
            since=since,
        )
        return dict(zip(("start", "history"), messages, strict=True))


@pytest.mark.parametrize("held", [0, 1, 2, 3])
def test_whoever_was_there_before_is_sent_the_rows_since_and_nothing_that_stayed(held: int) -> None:
    lengths = [3, 4, 7, 12, 20]
    stored = Stored(*lengths)
    sent = stored.sent(4, held)
    assert sent["start"].form == "held"
    assert sent["history"].form == "delta"
    missed = lengths[4] - lengths[held]
    assert len(sent["history"].inline) == 16 * missed + 4
    base = {"rows": ROWS[: lengths[held]]}
    assert same_bits(receive(sent["history"].inline, SPEC, CHAINS, base=base), {"rows": ROWS[:20]})


def test_a_newcomer_is_sent_everything() -> None:
    sent = Stored(3, 20).sent(1, None)
    assert [message.form for message in sent.values()] == ["full", "full"]
    assert same_bits(receive(sent["history"].inline, SPEC, CHAINS), {"rows": ROWS[:20]})


@pytest.mark.parametrize(("rows", "inside"), [(255, True), (256, False)])
def test_a_first_part_of_more_than_four_kilobytes_is_named_since_clients_may_make_it(rows: int, inside: bool) -> None:
    """One byte of the form stands before 16 bytes a row."""
    payloads: dict[bytes, bytes] = {}
    task = Task(1, 0, "train", {"model": {"rows": np.ones((rows, 4), "<f4")}}, Spec())
    plain = publish_task(task, Chains(), 0, None, payloads.__setitem__).to_plain()
    first, later = (
        part_messages(plain, {}, is_previous=False, inline=True, first=each, content=payloads.__getitem__)[0]
        for each in (True, False)
    )
    (whole,) = payloads.values()
    assert len(whole) == 16 * rows + 1
    assert later.inline == whole
    assert (first.inline == whole) is inside
    assert (first.digest in payloads) is not inside


def test_where_the_whole_is_smaller_the_whole_is_sent() -> None:
    stored = Stored(0, 100)
    same = np.zeros((100, 4), "<f4")
    task = Task(3, 0, "train", {"start": FIXED, "history": {"rows": same}}, Spec(), specs={"history": SPEC})
    stored.plain.append(publish_task(task, CHAINS, 0, None, stored.payloads.__setitem__).to_plain())
    assert stored.sent(2, 0)["history"].form == "full"
