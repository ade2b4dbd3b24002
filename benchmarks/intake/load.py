"""Clients that train nothing, many in one process: they register, answer with other bytes each, and take the time.

`python -m benchmarks.intake.load` prints one line of JSON. Sockets are written to without a copy and all answers share
their bytes but the last four, so that on the same machine little but the coordinator is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import numpy as np

from thinwire.codecs import Chain, Spec
from thinwire.methods.payloads import encode_answer
from thinwire.protocol.encoding import MSGPACK, decode_message, encode_message
from thinwire.protocol.messages import AnswerMessage, Enrolled, Enrolment, Plan, Registration, TaskMessage

PIECE: Final = 1 << 18
TUS: Final = "Tus-Resumable: 1.0.0\r\n"
HEADERS: Final = f"Content-Type: {MSGPACK}\r\nAccept: {MSGPACK}\r\n"


@dataclass
class Connection:
    """One kept-alive HTTP/1.1 connection of one client."""

    host: str
    port: int
    token: str = ""
    raw: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))

    async def open(self) -> None:
        self.raw.setblocking(False)
        self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(self.raw, (self.host, self.port))

    async def ask(
        self, method: str, path: str, headers: str = "", pieces: tuple[bytes | memoryview, ...] = ()
    ) -> bytes:
        """The head and body of the response, whose status is below 300."""
        loop = asyncio.get_running_loop()
        token = f"Authorization: Bearer {self.token}\r\n" if self.token else ""
        length = sum(len(piece) for piece in pieces)
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\n{token}{headers}Content-Length: {length}\r\n\r\n"
        await loop.sock_sendall(self.raw, head.encode())
        for piece in pieces:
            for start in range(0, len(piece), PIECE):
                await loop.sock_sendall(self.raw, piece[start : start + PIECE])
        found = b""
        while b"\r\n\r\n" not in found:
            found += await self.more()
        head_end = found.index(b"\r\n\r\n") + 4
        lines = found[:head_end].decode().lower()
        size = int(lines.partition("content-length:")[2].split()[0]) if "content-length:" in lines else 0
        while len(found) < head_end + size:
            found += await self.more()
        if not 200 <= int(lines.split()[1]) < 300:
            raise RuntimeError(f"{method} {path}: {found!r}")
        return found

    async def more(self) -> bytes:
        block = await asyncio.get_running_loop().sock_recv(self.raw, PIECE)
        if not block:
            raise ConnectionError("the server has closed the connection")
        return block


def body_of(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


async def start_together(url: str, clients: int) -> list[Connection]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    connections = [Connection(parts.hostname, parts.port) for _ in range(clients)]
    for connection in connections:
        await connection.open()
    return connections


async def bare(url: str, clients: int, size: int, rounds: int) -> list[float]:
    """Seconds in which so many bodies were taken."""
    connections = await start_together(url, clients)
    shared = memoryview(np.random.default_rng(0).standard_normal(size // 4, np.float32).tobytes())
    found = []
    for _ in range(rounds):
        begun = time.monotonic()
        await asyncio.gather(
            *(
                one.ask("PATCH", "/", "", (shared[:-4], struct.pack("<I", index)))
                for index, one in enumerate(connections)
            )
        )
        found.append(time.monotonic() - begun)
    return found


class Payload:
    """The answers of all clients: shared bytes, and four that are the client's own. `size`: bytes of each."""

    def __init__(self, plan: Plan) -> None:
        reply, chain = Spec.from_plain(plan.reply), Chain.from_plain(plan.chains.up)
        random = np.random.default_rng(1)
        arrays = {name: 0.01 * random.standard_normal(item.max_shape, np.float32) for name, item in reply.items()}
        data = encode_answer(arrays, reply, chain, reference={}, seed=0)
        self._shared = memoryview(data)[:-4]
        self._hash = hashlib.sha256(self._shared)
        self.size = len(data)

    def of(self, client: int, round_: int) -> tuple[tuple[memoryview, bytes], bytes]:
        """The pieces of one answer, and its digest."""
        own = struct.pack("<f", 1e-3 * (1 + client) + 1e-6 * round_)
        digest = self._hash.copy()
        digest.update(own)
        return (self._shared, own), digest.digest()


async def answer(connection: Connection, task: str, pieces: tuple[memoryview, bytes], digest: bytes) -> bytes:
    """Uploads and has it counted; the response with the verdict."""
    encoded = [base64.b64encode(value).decode() for value in (task.encode(), digest)]
    headers = (
        f"{TUS}Upload-Length: {sum(len(piece) for piece in pieces)}\r\n"
        f"Upload-Metadata: task {encoded[0]},digest {encoded[1]}\r\n"
    )
    created = await connection.ask("POST", "/v1/uploads", headers)
    location = created.decode().lower().partition("location: ")[2].split()[0]
    headers = f"{TUS}Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n"
    await connection.ask("PATCH", location, headers, pieces)
    message = encode_message(AnswerMessage(examples=1, upload=location.rpartition("/")[2]))
    while True:
        told = await connection.ask("POST", f"/v1/tasks/{task}/answer", HEADERS, (message,))
        if b" 202 " not in told.partition(b"\r\n")[0]:
            return told
        await asyncio.sleep(0.05)


async def register(connection: Connection) -> TaskMessage:
    message = encode_message(Registration())
    while True:
        told = await connection.ask("POST", "/v1/registrations?wait_s=60", HEADERS, (message,))
        if body := body_of(told):
            return decode_message(TaskMessage, body, max_bytes=1 << 20)


class Counted:
    """Listens to a run's events, which tell of an answer when it has been stored and added to the sum."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._heard = b""

    async def open(self, run: str) -> None:
        request = f"GET /v1/runs/{run}/events HTTP/1.1\r\nHost: {self._connection.host}\r\n\r\n"
        await asyncio.get_running_loop().sock_sendall(self._connection.raw, request.encode())
        await self._until(b"event: run")

    async def all_of(self, exchange: int, answers: int) -> None:
        """Returns when so many answers of this exchange have been counted."""
        await self._until(b'{"exchange":%d,"answers":%d}' % (exchange, answers))

    async def _until(self, text: bytes) -> None:
        while text not in self._heard:
            self._heard += await self._connection.more()
        self._heard = self._heard.partition(text)[2]


async def federated(url: str, invite: str, name: str, clients: int, rounds: int) -> list[float]:
    """Seconds of each round until all answers were uploaded, checked, stored and summed; registering is left out, and
    so is what the last acknowledgement waits for: the next task, which rides on it.
    """
    *connections, listening = await start_together(url, clients + 1)
    counted = Counted(listening)
    for index, connection in enumerate(connections):
        enrolment = encode_message(Enrolment(invite=invite, name=f"{name}-{index:03d}"))
        told = await connection.ask("POST", "/v1/clients", HEADERS, (enrolment,))
        connection.token = decode_message(Enrolled, body_of(told)).token
    payload: Payload | None = None
    found = []
    for round_ in range(rounds):
        tasks = await asyncio.gather(*(register(connection) for connection in connections))
        if payload is None:
            plan = await connections[0].ask("GET", f"/v1/plans/{tasks[0].plan.hex()}", f"Accept: {MSGPACK}\r\n")
            payload = Payload(decode_message(Plan, body_of(plan), max_bytes=1 << 24))
            await counted.open(tasks[0].run)
        begun = time.monotonic()
        answers = asyncio.gather(
            *(
                answer(connection, task.task, *payload.of(index, round_))
                for index, (connection, task) in enumerate(zip(connections, tasks, strict=True))
            )
        )
        await counted.all_of(tasks[0].exchange, clients)
        found.append(time.monotonic() - begun)
        await answers
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--bare-bytes", type=int, default=0, help="of one body for the bare endpoint")
    parser.add_argument("--invite", default="", help="a file with it")
    parser.add_argument("--name", default="client", help="of the clients, before their numbers")
    given = parser.parse_args()
    if given.bare_bytes:
        seconds = asyncio.run(bare(given.url, given.clients, given.bare_bytes, given.rounds))
    else:
        with open(given.invite) as file:
            invite = file.read().strip()
        seconds = asyncio.run(federated(given.url, invite, given.name, given.clients, given.rounds))
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
