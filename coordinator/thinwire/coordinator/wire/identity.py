"""Who asks: found once, from the request's bearer token, and put into the ASGI scope. Tokens are known by their
SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from thinwire.protocol.fields import Role
from thinwire.protocol.reasons import ProblemError

ASKER: Final = "thinwire.asker"
"""The key of the request's `Asker` in the ASGI scope."""
LOCAL: Final = "thinwire.local"
"""The key of whether a program at this machine asks for itself, with nobody in between, in the ASGI scope."""
COOKIE: Final = "thinwire"
"""The name of the cookie that stands for a token."""
TAKE_TASKS: Final = frozenset[Role]({"client", "evaluator"})
_READS: Final = frozenset[Role]({"reader", "operator"})
_CHANGES: Final = frozenset[Role]({"operator"})
_IDENTITY: Final = "thinwire.identity"


class Caller(Protocol):
    """An enrolled client, as far as the wire knows one."""

    @property
    def name(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def role(self) -> Role: ...
    @property
    def token_hash(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Asker:
    """`presented`: the hash of the token that came with the request; `caller`: the client whose token it is; `owner`:
    whether it is the token of the data folder.
    """

    presented: bytes | None = None
    caller: Caller | None = None
    owner: bool = False

    @property
    def known(self) -> bool:
        """Whether the token is one."""
        return self.owner or self.caller is not None

    @property
    def operates(self) -> bool:
        """Whether the token is an operator's."""
        return self.owner or (self.caller is not None and self.caller.role in _CHANGES)

    def client(self) -> Caller:
        """Raises: `token-missing`, `token-invalid`."""
        if self.caller is None:
            raise ProblemError("token-missing" if self.presented is None else "token-invalid")
        return self.caller


async def _nobody(_presented: bytes) -> None:
    """No other process lets clients in."""


class Identity:
    """The ASGI middleware. `find`: the client whose token has this hash; `find_elsewhere`: asked where there is none;
    `is_owner`: whether it is the hash of the data folder's token; `used`: is told whose token has been good for
    something; `token_of`: the hash of the token that the cookie with this hash stands for; `public_read`: reading needs
    no token, from wherever.
    """

    def __init__(
        self,
        app: ASGIApp,
        find: Callable[[bytes], Caller | None],
        is_owner: Callable[[bytes], bool],
        used: Callable[[Caller], None],
        *,
        public_read: bool,
        find_elsewhere: Callable[[bytes], Awaitable[Caller | None]] = _nobody,
        token_of: Callable[[bytes], Awaitable[bytes | None]] | None = None,
    ) -> None:
        self._app = app
        self._find = find
        self._find_elsewhere = find_elsewhere
        self._is_owner = is_owner
        self.used = used
        self.public_read = public_read
        self._token_of = token_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[_IDENTITY] = self
            headers = Headers(scope=scope)
            presented = _presented(headers)
            cookie = None if presented or self._token_of is None else cookie_of(headers)
            if cookie and self._token_of is not None and _is_of_its_own_page(scope["method"], headers):
                presented = await self._token_of(hash_of(cookie))
            found = self.look_up(presented)
            if presented is not None and not found.known:
                found = replace(found, caller=await self._find_elsewhere(presented))
            scope[ASKER] = found
        await self._app(scope, receive, send)

    def look_up(self, presented: bytes | None) -> Asker:
        """Whose token it is now."""
        if presented is None:
            return Asker()
        return Asker(presented, self._find(presented), self._is_owner(presented))


def hash_of(secret: str) -> bytes:
    """SHA-256: what is stored of a token or an invite."""
    return hashlib.sha256(secret.encode()).digest()


def _presented(headers: Headers) -> bytes | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    token = token.strip()
    return hash_of(token) if scheme.lower() == "bearer" and token else None


def cookie_of(headers: Headers) -> str | None:
    """What stands for a token, in the browser's cookies."""
    return cookie_parser(headers.get("cookie", "")).get(COOKIE)


def _is_of_its_own_page(method: str, headers: Headers) -> bool:
    """A cookie comes with whatever page asks, also one of another port: for what may change something the browser must
    say that the page is this coordinator's. That `Origin`, where it is given, is the coordinator's is checked before.
    """
    site = headers.get("sec-fetch-site")
    if method in ("GET", "HEAD", "OPTIONS"):
        return True
    return site == "same-origin" if site is not None else "origin" in headers


def asker(request: HTTPConnection) -> Asker:
    """Who asked when the request came."""
    found: Asker = request.scope[ASKER]
    return found


def ask_again(request: HTTPConnection) -> None:
    """Looks the token up anew, for a request that lasts: it may have been revoked or replaced meanwhile."""
    request.scope[ASKER] = _identity(request).look_up(asker(request).presented)


def require_client(request: HTTPConnection) -> Caller:
    """The client that asks, one that takes tasks; its token counts as used. Raises: `token-missing`, `token-invalid`,
    `not-allowed`.
    """
    caller = asker(request).client()
    if caller.role not in TAKE_TASKS:
        raise ProblemError("not-allowed", f"this token is for people: a {caller.role} takes no tasks")
    _identity(request).used(caller)
    return caller


def require_operator(request: HTTPConnection) -> None:
    """Raises: `token-missing`, `token-invalid`, `not-allowed` unless an operator asks."""
    _require(request, _CHANGES, "only an operator may do this")


def require_token_to_read(request: HTTPConnection) -> None:
    """Raises: `token-missing`, `token-invalid`, `not-allowed` unless an operator or a reader asks."""
    _require(request, _READS, "only an operator or a reader may see this")


def require_reader(request: HTTPConnection) -> None:
    """Raises as `require_token_to_read`, unless everybody may read, or this machine asks for itself."""
    if not _identity(request).public_read and not request.scope.get(LOCAL, False):
        require_token_to_read(request)


def _require(request: HTTPConnection, roles: frozenset[Role], otherwise: str) -> None:
    if asker(request).owner:
        return
    caller = asker(request).client()
    if caller.role not in roles:
        raise ProblemError("not-allowed", otherwise)
    _identity(request).used(caller)


def _identity(request: HTTPConnection) -> Identity:
    identity: Identity = request.scope[_IDENTITY]
    return identity
