"""The options of `fleet`. Loads neither torch nor numpy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from thinwire.edge_client.settings import Name, Permissions, ProblemSettings, Sizes, Split, sizes_of
from thinwire.machine.link_rates import parse_link
from thinwire.protocol.command_options import Written


def parse_links(text: str) -> dict[str, float]:
    """Link -> its weight, of `4g:7; nb-iot:3`, or of one link alone. Raises: `ValueError`."""
    found = {}
    for part in text.split(";"):
        link, _, weight = part.strip().rpartition(":")
        if not link:
            link, weight = weight, "1"
        parse_link(link)
        try:
            found[link] = float(weight)
        except ValueError:
            raise ValueError(f"no weight is {weight!r}: write, for example, 4g:7; nb-iot:3") from None
        if not found[link] > 0:
            raise ValueError(f"the weight of {link} must be above 0")
    return found


def _links(text: str | None) -> str | None:
    if text is not None:
        parse_links(text)
    return text


class FleetSettings(ProblemSettings):
    """The options of `fleet`."""

    clients: int = Field(100, ge=1, le=100_000, description="how many; of K client K of N gets the share K/N")
    processes: int | None = Field(
        None, ge=1, le=1024, description="among which they are divided; each trains one task at a time; default: CPUs"
    )
    concurrency: int | None = Field(
        None, ge=1, description="tasks that are fetched or worked on at the same time; default: 4 for each process"
    )
    name: Name = Field("client", description="they are called NAME-00000 and so on")
    invite_file: Path | None = Field(
        None, description="file with a counted invite (`--uses`); or set THINWIRE_INVITE. Needed once"
    )
    data_dir: Path | None = Field(
        None, description="their folders, from which the fleet goes on when it is started again; default: for this time"
    )
    split: Split = Field("iid", description="iid, dirichlet:ALPHA, classes:K or natural")
    seed: int = Field(0, ge=0, description="of split, first model and the dice of links")
    limit: Sizes = Field("", description="use only so many examples: TRAIN or TRAIN/TEST")
    device: str = Field("cpu", description="cpu, cuda, cuda:1, mps")
    allow: Permissions = Field((), description="consent, for example sample-knowledge")
    link: Annotated[str | None, AfterValidator(_links)] = Field(
        None, description="emulate a link for each client, by weights: 4g; or 4g:7; nb-iot:3"
    )
    trace: Path | None = Field(
        None, description="CSV file: client,from,to; when each is there, in seconds from the begin"
    )
    give_up_after_s: float | None = Field(None, ge=0, description="seconds without any answer")
    ca_file: Path | None = Field(None, description="certificates to trust instead of the system's")
    stats: Path | None = Field(None, description="write byte counts here at the end, as JSON")
    quiet: Annotated[bool, Written(short="-q")] = Field(False, description="say nothing but errors")

    @property
    def sizes(self) -> tuple[int | None, int | None]:
        """How many examples to use, for training and tests."""
        return sizes_of(self.limit)

    @property
    def shared_among(self) -> int:
        """The number of processes."""
        return min(self.clients, self.processes or len(os.sched_getaffinity(0)))

    @property
    def at_once(self) -> int:
        """Tasks under way in one process."""
        return 4 if self.concurrency is None else -(-self.concurrency // self.shared_among)

    def names(self) -> list[str]:
        """Of all clients, by number."""
        return [f"{self.name}-{index:05d}" for index in range(self.clients)]
