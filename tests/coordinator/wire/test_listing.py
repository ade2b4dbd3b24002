"""A list that is written block by block is the message that it would be whole, and nothing of it is read in advance."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import StreamingResponse

from tests.protocol.messages_strategies import random_messages
from thinwire.coordinator.wire.listing import Listing, in_one_block, respond_with, respond_with_csv
from thinwire.protocol.encoding import JSON, MSGPACK, encode_message
from thinwire.protocol.messages import Ledger, LedgerRow, LinkRow

rows = st.lists(st.lists(random_messages(LedgerRow, JSON), max_size=3), max_size=3)
links = st.lists(random_messages(LinkRow, JSON), max_size=3)
counts = st.integers(0, 2**60).map(lambda count: ROW.model_copy(update={"requests": count}))
ROW = LedgerRow(
    run="run001", client="ann", kind="answer", requests=1, uplink_payload_bytes=1, uplink_framing_bytes=1,
    downlink_payload_bytes=1, downlink_framing_bytes=1, resumed_bytes=0, seconds=0.0,
)  # fmt: skip


def asking(accept: str) -> Request:
    return Request({"type": "http", "headers": [(b"accept", accept.encode())]})


def listing(blocks: list[list[LedgerRow]], read: list[int]) -> Listing[LedgerRow]:
    async def work() -> AsyncIterator[list[LedgerRow]]:
        for number, block in enumerate(blocks):
            read.append(number)
            yield block

    return Listing(sum(map(len, blocks)), work())


async def body_of(response: StreamingResponse) -> bytes:
    return b"".join([bytes(piece) async for piece in response.body_iterator])  # type: ignore[arg-type]


@pytest.mark.parametrize("media_type", [JSON, MSGPACK])
@given(blocks=rows, links=links)
def test_blocks_are_the_message(media_type: str, blocks: list[list[LedgerRow]], links: list[LinkRow]) -> None:
    whole = Ledger(rows=[row for block in blocks for row in block], links=links)
    lists = {"rows": listing(blocks, []), "links": Listing(len(links), in_one_block(links))}
    response = respond_with(asking(media_type), lists)
    assert isinstance(response, StreamingResponse)
    assert response.media_type == media_type
    assert asyncio.run(body_of(response)) == encode_message(whole, media_type)


@given(blocks=st.lists(st.lists(counts, max_size=3), max_size=3))
def test_lines_are_the_rows(blocks: list[list[LedgerRow]]) -> None:
    response = respond_with_csv(list(LedgerRow.model_fields), listing(blocks, []))
    assert isinstance(response, StreamingResponse)
    names, *lines = csv.reader(io.StringIO(asyncio.run(body_of(response)).decode(), newline=""))
    assert names == list(LedgerRow.model_fields)
    told = [[str("" if value is None else value) for value in row.model_dump().values()] for b in blocks for row in b]
    assert lines == told


@pytest.mark.parametrize("accept", [JSON, MSGPACK, "text/csv"])
def test_a_block_is_read_when_the_one_before_has_been_taken(accept: str) -> None:
    read: list[int] = []
    found = listing([[ROW] * 10] * 100, read)
    names = list(LedgerRow.model_fields)
    response = respond_with_csv(names, found) if accept == "text/csv" else respond_with(asking(accept), {"rows": found})
    assert isinstance(response, StreamingResponse)

    async def take() -> None:
        pieces = response.body_iterator.__aiter__()
        for number in range(100):
            piece = await anext(pieces)
            assert read[-1] == number
            assert len(piece) < 8000

    asyncio.run(take())
