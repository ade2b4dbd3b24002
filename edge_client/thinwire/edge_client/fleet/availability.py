"""When a client is there: the spells of a trace, and holding a conversation until the next one."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

Spells = Sequence[tuple[float, float]]
"""From when to when, in seconds since the fleet began; in order, none within another."""
_COLUMNS: Final = ["client", "from", "to"]


class AwayError(Exception):
    """The client has left: its trace has no further spell."""


def read_trace(path: Path, clients: int) -> dict[int, Spells]:
    """Client -> when it is there, of a CSV file with the columns `client` (a number from 0), `from` and `to` (seconds
    since the fleet began). Clients without a line are always there.

    Raises: `ValueError` with the line, `OSError`.
    """
    spells: dict[int, list[tuple[float, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        if next(rows, None) != _COLUMNS:
            raise ValueError(f"{path}: the first line has to be {','.join(_COLUMNS)}")
        for number, row in enumerate(rows, 2):
            try:
                client, begin, end = int(row[0]), float(row[1]), float(row[2])
                if not (len(row) == len(_COLUMNS) and 0 <= client < clients and 0 <= begin < end):
                    raise ValueError
            except (ValueError, IndexError):
                words = f"a client from 0 to {clients - 1}, and from when to when it is there in seconds"
                raise ValueError(f"{path}: line {number}: {','.join(row)!r} is not {words}") from None
            spells.setdefault(client, []).append((begin, end))
    for client, found in spells.items():
        found.sort()
        for before, after in pairwise(found):
            if after[0] < before[1]:
                raise ValueError(f"{path}: client {client} is there twice at {after[0]:g} s")
    return dict(spells)


@dataclass(frozen=True, slots=True)
class Availability:
    """Care for a link that is there only at times (`thinwire.edge_client.link.care.Care`). A transfer under way is not
    cut: what may not begin now waits.

    `now_s`: seconds since the fleet began; `leave`: closes the client's connections; `tell`: whether it is away.
    """

    spells: Spells
    now_s: Callable[[], float]
    sleep: Callable[[float], None]
    leave: Callable[[], None]
    tell: Callable[[bool], None]

    def hold(self, size: int = 0) -> None:
        """Returns when the client is there. Raises: `AwayError`."""
        now = self.now_s()
        ahead = next((spell for spell in self.spells if spell[1] > now), None)
        if ahead is not None and ahead[0] <= now:
            return
        self.leave()
        if ahead is None:
            raise AwayError("the trace has no further spell")
        self.tell(True)
        self.sleep(ahead[0] - now)
        self.tell(False)

    def poll_s(self, wished_s: int) -> int:
        """How long a poll may be parked: it ends with the spell."""
        now = self.now_s()
        end = next((spell[1] for spell in self.spells if spell[1] > now), now)
        return max(1, min(wished_s, int(end - now)))


def shares_of(links: Mapping[str, float], clients: int) -> list[str]:
    """A link for each client: as many of each as its weight among them says, to one."""
    total, found, begun = sum(links.values()), list[str](), 0.0
    for link, weight in links.items():
        begun += weight
        found += [link] * (round(clients * begun / total) - len(found))
    return found
