"""What a method says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .chains import Chains
from .reducers import Robust
from .settings import MethodSettings


@dataclass(frozen=True, slots=True)
class Method:
    """A method's entry: `METHOD` in the `__init__.py` of its folder.

    `chains`: the default chains of every kind of exchange but `evaluate`, from the settings. The halves are
    `server.Server` and `client.Client` in the same folder, loaded by those who need them. `shared_model`: whether
    every client must have the model of the run; False where models may differ from client to client. `averages`:
    whether, with these settings, answers are updates of which any robust mean will do (`robust.reducer_of`).
    `extends`: whether a run may get more rounds while it goes on: no state depends on how many there will be.
    `asynchronous`: whether a run may count answers to tasks of earlier exchanges: a round is one exchange with a cohort
    "new", all of them of one kind and reply, no part is private, and the reducer weighs by staleness (`reducer_of`).
    """

    id: str
    title: str
    source: str
    settings: type[MethodSettings]
    chains: Callable[[Any], Mapping[str, Chains]]
    shared_model: bool = True
    averages: Callable[[Any], bool] = lambda _: False
    extends: bool = False
    asynchronous: bool = False

    def check(self, settings: Any, robust: Robust) -> None:
        """Raises `ValueError` where the run wants a robust reducer and this method cannot have one."""
        if robust != Robust() and not self.averages(settings):
            raise ValueError(
                f"{self.id} takes no reducer but the mean, and no max-norm: with these settings its answers are not "
                "updates that may be ordered or scaled"
            )
