"""What the clients of one machine learn, on which data, over which link: the options of `demo` and `compare`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fleet:
    """Clients that are alike but for their share of the data. Each field is an option of `thinwire demo`, and most are
    handed on to `thinwire-client join`.
    """

    clients: Annotated[int, Field(ge=1, le=1000, description="processes; all answer in every round")] = 8
    task: Annotated[str, Field(description="as for `thinwire-client join`")] = "digits"
    split: Annotated[str, Field(description="iid, dirichlet:ALPHA, classes:K or natural")] = "dirichlet:0.3"
    seed: Annotated[int, Field(ge=0, description="of model, split and everything random")] = 0
    link: Annotated[str | None, Field(description="emulate 4g, 3g, nb-iot, satellite or RATE,RTT,LOSS")] = None
    data: Annotated[Path | None, Field(description="npz file of a task that is not bundled")] = None
    architecture: Annotated[
        str | None, Field(description="instead of the task's own; several, by commas, take turns")
    ] = None
    limit: Annotated[str | None, Field(description="use only so many examples: TRAIN or TRAIN/TEST")] = None
    allow: Annotated[
        tuple[str, ...], Field(description="what the clients consent to, for example sample-knowledge")
    ] = ()
    download: Annotated[bool, Field(description="fetch the task's data from the usual place, once")] = False
    device: Annotated[str, Field(description="where the clients train: cpu, cuda, cuda:1, mps")] = "cpu"

    def learns(self, index: int) -> list[str]:
        """Options of this client's command line: what it learns and on which data."""
        architectures = (self.architecture or "").split(",")
        given = {
            "--task": self.task,
            "--data": None if self.data is None else str(self.data),
            "--architecture": architectures[index % len(architectures)].strip() or None,
            "--seed": str(self.seed),
        }
        words = [word for option, value in given.items() if value is not None for word in (option, value)]
        return [*words, "--download"] if self.download else words

    def joins(self, index: int) -> list[str]:
        """Options of this client's `join`: also its share, how it trains, and its link."""
        return [*self.learns(index), "--share", f"{index}/{self.clients}", *self._trains()]

    def plays(self) -> list[str]:
        """Options of `thinwire-client simulate` for all of them."""
        # A graphics card is shared by nobody who was forked.
        processes = os.cpu_count() or 1 if self.device == "cpu" else 1
        numbers = ("--clients", str(self.clients), "--processes", str(processes))
        return [*self.learns(0), *numbers, *self._trains()]

    def _trains(self) -> list[str]:
        """What `join` and `simulate` say alike."""
        given = {"--split": self.split, "--device": self.device, "--limit": self.limit, "--link": self.link}
        words = [word for option, value in given.items() if value is not None for word in (option, value)]
        return [*words, *(word for permission in self.allow for word in ("--allow", permission))]


def client_name(index: int) -> str:
    """The stable name of a client by its number: randomness is derived from it."""
    return f"client-{index:02d}"
