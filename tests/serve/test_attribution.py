"""Bytes belong to what they carry, whatever is open when they cross."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.serve.asking import asking, token_of
from tests.serve.house import House
from thinwire.protocol.encoding import MSGPACK, decode_message, encode_message
from thinwire.protocol.messages import AnswerMessage, DeclineMessage, Registration, TaskMessage

STEPS: Final = ("plan", "payload", "answer", "again", "decline")
BIG: Final = b"b" * 70_000  # too large to travel inside a message
PACKED: Final = {"content-type": MSGPACK, "accept": MSGPACK}
Sums = dict[tuple[int | None, str], tuple[int, int, int]]


async def straggle(folder: Path, moves_on: int, *, same_payload: bool) -> Sums:
    """What the run's exchanges cost where a client does the first one, and the run moves on before one of its steps."""
    async with House(folder).open() as house, asking(house) as http:
        slow, who = await token_of(house, "slow")
        await house.run()
        await house.exchange(content=BIG)
        await house.ask(slow)
        async with house.deciding():
            body = encode_message(Registration(), MSGPACK)
            registered = await http.post("/v1/registrations?wait_s=60", content=body, headers=who | PACKED)
            message = decode_message(TaskMessage, registered.content)
            part = message.parts[0].digest
            assert part is not None
            for index, step in enumerate(STEPS):
                if index == moves_on:
                    await house.close()
                    await house.exchange(index=1, content=BIG if same_payload else BIG[1:])
                if step == "plan":
                    reply = await http.get(f"/v1/plans/{message.plan.hex()}", headers=who)
                elif step == "payload":
                    reply = await http.get(f"/v1/payloads/{part.hex()}", headers=who)
                elif step == "decline":
                    body = encode_message(DeclineMessage(detail="no"), MSGPACK)
                    reply = await http.post(f"/v1/tasks/{message.task}/decline", content=body, headers=who | PACKED)
                else:
                    body = encode_message(AnswerMessage(examples=1, payload=b"a" * 1000), MSGPACK)
                    reply = await http.post(f"/v1/tasks/{message.task}/answer", content=body, headers=who | PACKED)
                assert reply.is_success, reply.content
        return await sums(house)


async def sums(house: House) -> Sums:
    found: Counter[tuple[int | None, str, int]] = Counter()
    async for block in (await house.ledger.rows("run001")).blocks:
        for row in block:
            for place, value in enumerate((row.requests, row.uplink_payload_bytes, row.downlink_payload_bytes)):
                found[row.exchange, row.kind, place] += value
    keys = {(exchange, kind) for exchange, kind, _ in found}
    return {key: (found[*key, 0], found[*key, 1], found[*key, 2]) for key in keys}


@pytest.mark.parametrize("moves_on", range(len(STEPS)))
@pytest.mark.parametrize("same_payload", [False, True])
def test_a_straggler_costs_its_own_exchange(tmp_path: Path, moves_on: int, same_payload: bool) -> None:
    async def both() -> tuple[Sums, Sums]:
        never = await straggle(tmp_path / "in-time", len(STEPS), same_payload=same_payload)
        late = await straggle(tmp_path / "late", moves_on, same_payload=same_payload)
        return never, late

    in_time, late = asyncio.run(both())
    assert late == in_time
    assert in_time == {
        (0, "register"): (1, 0, 0),
        (0, "plan"): (1, 0, 0),
        (0, "payload"): (1, 0, len(BIG)),
        (0, "answer"): (3, 2000, 0),
    }
