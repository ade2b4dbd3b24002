"""The operator's side of the HTTP interface: what to ask a coordinator."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
from pydantic import BaseModel

from thinwire.machine.files import write_atomic
from thinwire.protocol.encoding import JSON, decode_message, encode_message
from thinwire.protocol.messages import Problem
from thinwire.protocol.places import find_proxy, without_secrets
from thinwire.protocol.reasons import REASONS, ProblemError

from .access import NoAddressError

MAX_RESPONSE_BYTES: Final = 1 << 28

MessageT = TypeVar("MessageT", bound=BaseModel)


class UnreachableError(Exception):
    """No coordinator answered."""


class Operator:
    """Requests to one coordinator. Everything may raise `ProblemError` and `UnreachableError`; making one:
    `NoAddressError`.
    """

    def __init__(self, url: str, token: str | None, *, ca_file: Path | None = None) -> None:
        self.url = self._where = url
        headers = {"accept": JSON} | ({"authorization": f"Bearer {token}"} if token else {})
        try:
            parts = httpx.URL(url)
            verify = ssl.create_default_context(cafile=ca_file)
            proxy = find_proxy(parts.scheme, parts.host)
            if proxy is not None:
                self._where += f" through the proxy {without_secrets(proxy)}"
            self._http = httpx.Client(
                base_url=url, headers=headers, verify=verify, timeout=30.0, trust_env=False, proxy=proxy
            )
        except httpx.InvalidURL as error:
            raise NoAddressError(f"{url}: {error}") from None
        except (ValueError, ImportError) as error:
            raise NoAddressError(f"{self._where}: {error}") from None
        except OSError as error:
            raise NoAddressError(f"{ca_file}: {error}") from None

    def close(self) -> None:
        self._http.close()

    def ask(self, method: str, path: str, kind: type[MessageT], body: BaseModel | None = None) -> MessageT:
        """The message that comes back."""
        content = None if body is None else encode_message(body, JSON)
        response = self._send(method, path, content, JSON)
        return _decoded(kind, response)

    def delete(self, path: str) -> None:
        self._send("DELETE", path)

    def text(self, path: str, accept: str) -> str:
        """A body as text."""
        return self._send("GET", path, accept=accept).text

    def send_file(self, path: str, file: Path, kind: type[MessageT]) -> MessageT:
        """POSTs a file, block by block. Raises also: `OSError`."""
        with file.open("rb") as body:
            size = {"content-length": str(file.stat().st_size)}
            response = self._send("POST", path, iter(lambda: body.read(1 << 20), b""), "application/octet-stream", size)
        return _decoded(kind, response)

    def fetch_file(self, path: str, file: Path) -> int:
        """GETs into a file, whole or not at all; how many bytes. Raises also: `OSError`."""
        with self._stream(path, "*/*") as response:
            write_atomic(file, response.iter_bytes(), fsync=False, mode=0o666)
        return file.stat().st_size

    def events(self, path: str) -> Iterator[tuple[str, str]]:
        """(event, data) of a stream of server-sent events, until the coordinator ends it."""
        with self._stream(path, "text/event-stream") as response:
            event, data = "message", list[str]()
            for line in response.iter_lines():
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if name == "event":
                    event = value
                elif name == "data":
                    data.append(value)
                elif not line and data:
                    yield event, "\n".join(data)
                    event, data = "message", []

    def _send(
        self, method: str, path: str, content: Any = None, media_type: str = JSON,
        headers: dict[str, str] | None = None, *, accept: str = JSON,
    ) -> httpx.Response:  # fmt: skip
        sent = {"accept": accept} | (headers or {}) | ({} if content is None else {"content-type": media_type})
        try:
            response = self._http.request(method, path, content=content, headers=sent)
        except httpx.HTTPError as error:
            raise UnreachableError(f"no coordinator answers at {self._where}: {_why(error)}") from None
        _check(response)
        return response

    def _stream(self, path: str, accept: str) -> _Stream:
        return _Stream(self._http, self._where, path, accept)


class _Stream:
    """A response that is read while it comes."""

    def __init__(self, http: httpx.Client, where: str, path: str, accept: str) -> None:
        # An event stream may be silent for as long as an exchange takes.
        timeout = httpx.Timeout(30.0, read=None)
        self._where = where
        self._context = http.stream("GET", path, headers={"accept": accept}, timeout=timeout)

    def __enter__(self) -> httpx.Response:
        try:
            response = self._context.__enter__()
            if response.is_error:
                response.read()
                _check(response)
            return response
        except httpx.HTTPError as error:
            raise UnreachableError(f"no coordinator answers at {self._where}: {_why(error)}") from None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._context.__exit__(kind, error, trace)
        if isinstance(error, httpx.HTTPError):
            raise UnreachableError(f"the connection to {self._where} broke: {_why(error)}") from None


def _check(response: httpx.Response) -> None:
    if response.is_redirect:
        where = response.headers.get("location", "elsewhere")
        raise UnreachableError(f"{response.url} redirects to {where}: give that address")
    if response.is_error:
        problem = _decoded(Problem, response)
        raise ProblemError(problem.reason if problem.reason in REASONS else "bad-request", problem.detail)


def _decoded(kind: type[MessageT], response: httpx.Response) -> MessageT:
    try:
        return decode_message(kind, response.content, JSON, max_bytes=MAX_RESPONSE_BYTES)
    except ProblemError:
        what = f"{response.url} answers {response.status_code}, but not as a coordinator of this version"
        raise UnreachableError(what) from None


def _why(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
