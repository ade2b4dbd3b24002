"""Worker threads for what would keep an event loop from its sockets: computing, hashing, files."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


class Workers:
    """So many threads, which begin with the first work; what is handed over waits for a free one, in the order in which
    it came. Any event loop may use them.

    Handing over is one put into a queue, and coming back one wake-up of the loop for all that is done by then: the
    executors of the standard library take several times as long for it, which is most of what small works cost.
    """

    def __init__(self, threads: int, name: str = "thinwire") -> None:
        self.threads = threads
        self._name = name
        self._works: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._running: list[threading.Thread] = []
        self._home: _Home | None = None
        self._closed = False

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's result. Raises what it raises. Whoever is cancelled waits no more; a work that has begun goes
        on to its end all the same.
        """
        if self._closed:
            raise RuntimeError("these workers are closed")
        loop = asyncio.get_running_loop()
        home = self._home
        if home is None or home.loop is not loop:
            home = self._home = _Home(loop)
        if not self._running:
            self._begin()
        done = loop.create_future()
        self._works.put(_Work(partial(function, *args, **kwargs), done, home))
        try:
            return cast(R, await done)
        finally:
            del done  # else an error that is raised here would hold what holds it, until the collector comes

    def close(self) -> None:
        """Waits for what was handed over; nothing is taken any more."""
        self._closed = True
        for _ in self._running:
            self._works.put(None)
        for thread in self._running:
            thread.join()
        self._running.clear()

    def _begin(self) -> None:
        for index in range(self.threads):
            # Daemons: a process that ends without closing them does not wait for what nobody hears of.
            thread = threading.Thread(target=self._work, name=f"{self._name}_{index}", daemon=True)
            self._running.append(thread)
            thread.start()

    def _work(self) -> None:
        while (work := self._works.get()) is not None:
            if not work.done.cancelled():
                work.do()
                work.home.tell(work)
            del work  # else its arguments and result would stay until the next one


@dataclass(slots=True, eq=False)
class _Work:
    function: Callable[[], Any] | None
    done: asyncio.Future[Any]
    home: _Home
    result: Any = None
    error: BaseException | None = None

    def do(self) -> None:
        """In a worker's thread."""
        function, self.function = self.function, None
        try:
            self.result = cast(Callable[[], Any], function)()
        except BaseException as error:
            self.error = error
            del self  # of this frame, which the error holds

    def finish(self) -> None:
        """On the event loop."""
        if self.done.done():
            return  # its caller has gone
        if self.error is None:
            self.done.set_result(self.result)
        elif isinstance(self.error, StopIteration):  # no future takes it
            self.done.set_exception(RuntimeError(f"a work raised {self.error!r}"))
        else:
            self.done.set_exception(self.error)


class _Home:
    """Where works come back to: a loop, and what is done and not told it yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._done = deque[_Work]()
        self._called = False

    def tell(self, work: _Work) -> None:
        """In a worker's thread. Appended before it is asked whether the loop was called: whoever delivers forgets the
        call first and looks then, so that nothing is left behind.
        """
        self._done.append(work)
        if not self._called:
            self._called = True
            with contextlib.suppress(RuntimeError):  # the loop has ended, and everybody who waited with it
                self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._called = False
        while self._done:
            self._done.popleft().finish()
