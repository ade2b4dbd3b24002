"""Long lists as messages, written block by block: nobody holds them whole, and nothing holds the loop for long."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgpack
from fastapi import Request, Response
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from thinwire.protocol.encoding import MSGPACK, encode_message
from thinwire.protocol.reasons import ProblemError

from .negotiation import response_type

CSV: Final = "text/csv"
MessageT = TypeVar("MessageT", bound=BaseModel, covariant=True)


@dataclass(frozen=True, slots=True)
class Listing(Generic[MessageT]):
    """`count` messages, in blocks, read as they are asked for."""

    count: int
    blocks: AsyncIterator[list[MessageT]]


async def in_one_block(messages: list[MessageT]) -> AsyncIterator[list[MessageT]]:
    """A list that is there already, as blocks."""
    yield messages


def respond_with(request: Request, lists: Mapping[str, Listing[BaseModel]]) -> Response:
    """A message of these lists, as the peer wants it. Raises: `not-acceptable`."""
    media_type = response_type(request)
    return StreamingResponse(_message(lists, media_type), media_type=media_type)


async def _message(lists: Mapping[str, Listing[BaseModel]], media_type: str) -> AsyncIterator[bytes]:
    packed = media_type == MSGPACK
    packer = msgpack.Packer()
    begin, between = (packer.pack_map_header(len(lists)), b"") if packed else (b"{", b",")
    for number, (name, listing) in enumerate(lists.items()):
        begin += packer.pack(name) + packer.pack_array_header(listing.count) if packed else _key(name, number)
        written = 0
        async for block in listing.blocks:
            if written and block and not packed:
                begin += b","
            yield begin + between.join(encode_message(one, media_type) for one in block)
            begin, written = b"", written + len(block)
        if written != listing.count:
            raise ProblemError("internal", f"{name}: {written} of {listing.count} were there")
        begin += b"" if packed else b"]"
    yield begin + (b"" if packed else b"}")


def _key(name: str, number: int) -> bytes:
    return f"{',' if number else ''}{json.dumps(name)}:[".encode()


def wants_csv(request: Request) -> bool:
    """Whether the peer names it."""
    return CSV in request.headers.get("accept", "")


def respond_with_csv(columns: list[str], listing: Listing[BaseModel]) -> Response:
    """A line for each message, below a line of names."""
    return StreamingResponse(_lines(columns, listing), media_type=CSV)


async def _lines(columns: list[str], listing: Listing[BaseModel]) -> AsyncIterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    async for block in listing.blocks:
        writer.writerows([getattr(one, name) for name in columns] for one in block)
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()
