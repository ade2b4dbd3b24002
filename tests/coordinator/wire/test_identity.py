"""Who asks is found once, from the token alone; who needs more than that is told what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from thinwire.coordinator.wire.identity import (
    Caller,
    Identity,
    ask_again,
    asker,
    hash_of,
    require_client,
    require_operator,
    require_reader,
    require_token_to_read,
)
from thinwire.protocol.fields import Role
from thinwire.protocol.reasons import ProblemError


@dataclass(frozen=True)
class Known:
    name: str
    role: Role
    token_hash: bytes
    group: str = "default"


@dataclass
class Directory:
    """Tokens of this test; `asked`: every look-up."""

    clients: dict[bytes, Known]
    owner: bytes = hash_of("owner")
    asked: list[bytes] = field(default_factory=list)
    used: list[str] = field(default_factory=list)

    def find(self, token_hash: bytes) -> Caller | None:
        self.asked.append(token_hash)
        return self.clients.get(token_hash)

    def is_owner(self, token_hash: bytes) -> bool:
        return token_hash == self.owner

    def use(self, caller: Caller) -> None:
        self.used.append(caller.name)


@pytest.fixture
def directory() -> Directory:
    known = [Known("ann", "client", hash_of("a")), Known("eve", "evaluator", hash_of("e"))]
    known += [Known("olga", "operator", hash_of("o")), Known("rob", "reader", hash_of("r"))]
    return Directory({one.token_hash: one for one in known})


def _seen(directory: Directory, header: str | None, *, public_read: bool = False) -> Request:
    """The request as the application inside the middleware gets it."""
    found: list[Request] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(Request(scope))

    async def nothing(*_: Any) -> Any:
        raise AssertionError("nothing is read and nothing sent")

    headers = [] if header is None else [(b"authorization", header.encode())]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    identity = Identity(app, directory.find, directory.is_owner, directory.use, public_read=public_read)
    asyncio.run(identity(scope, nothing, nothing))
    return found[0]


def _reason(function: Callable[[Request], object], request: Request) -> str | None:
    try:
        function(request)
    except ProblemError as error:
        return error.reason
    return None


@pytest.mark.parametrize(
    ("header", "client", "operator", "reader"),
    [
        (None, "token-missing", "token-missing", "token-missing"),
        ("Basic a", "token-missing", "token-missing", "token-missing"),
        ("Bearer", "token-missing", "token-missing", "token-missing"),
        ("Bearer  ", "token-missing", "token-missing", "token-missing"),
        ("Bearer x", "token-invalid", "token-invalid", "token-invalid"),
        ("bearer   a ", None, "not-allowed", "not-allowed"),
        ("Bearer e", None, "not-allowed", "not-allowed"),
        ("Bearer o", "not-allowed", None, None),
        ("Bearer r", "not-allowed", "not-allowed", None),
        ("Bearer owner", "token-invalid", None, None),
    ],
)
def test_each_is_told_what_is_missing(
    directory: Directory, header: str | None, client: str | None, operator: str | None, reader: str | None
) -> None:
    request = _seen(directory, header)
    assert _reason(require_client, request) == client
    assert _reason(require_operator, request) == operator
    assert _reason(require_reader, request) == reader
    assert _reason(require_token_to_read, request) == reader
    assert _reason(require_reader, _seen(directory, header, public_read=True)) is None
    assert _reason(require_token_to_read, _seen(directory, header, public_read=True)) == reader


def test_a_token_is_looked_up_once_however_often_one_asks(directory: Directory) -> None:
    request = _seen(directory, "Bearer a")
    for _ in range(3):
        assert require_client(request).name == "ann"
        assert asker(request).caller is directory.clients[hash_of("a")]
    assert directory.asked == [hash_of("a")]


def test_a_token_is_used_where_it_was_good_for_something(directory: Directory) -> None:
    for header in (None, "Bearer a", "Bearer x", "Bearer owner"):
        request = _seen(directory, header)
        assert asker(request).owner == (header == "Bearer owner")
    assert directory.used == []
    assert _reason(require_client, _seen(directory, "Bearer r")) == "not-allowed"
    assert _reason(require_operator, _seen(directory, "Bearer a")) == "not-allowed"
    assert directory.used == []
    require_client(_seen(directory, "Bearer a"))
    require_reader(_seen(directory, "Bearer r"))
    assert directory.used == ["ann", "rob"]


def test_who_lasts_is_asked_again(directory: Directory) -> None:
    request = _seen(directory, "Bearer o")
    require_operator(request)
    del directory.clients[hash_of("o")]
    require_operator(request)
    ask_again(request)
    assert _reason(require_operator, request) == "token-invalid"
