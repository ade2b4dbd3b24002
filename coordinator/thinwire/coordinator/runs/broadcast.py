"""What an exchange sends: parts published as payloads, and which form of each a client gets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from thinwire.codecs import Arrays, Chain, Spec, grows
from thinwire.methods.chains import Chains
from thinwire.methods.payloads import Part, merge_parts, publish, receive, since, travels_inside
from thinwire.methods.values import Task
from thinwire.protocol.identity import broadcast_seed
from thinwire.protocol.messages import MAX_INLINE_BYTES, PartMessage

Keep = Callable[[bytes, bytes], None]
"""Stores a payload under its digest."""
Content = Callable[[bytes], bytes]
"""The bytes of a stored payload, by its digest."""


@dataclass(frozen=True, slots=True)
class Form:
    """A payload: its name and its size in bytes."""

    digest: bytes
    size: int

    @staticmethod
    def of(data: bytes, keep: Keep) -> Form:
        """Stored."""
        digest = hashlib.sha256(data).digest()
        keep(digest, data)
        return Form(digest, len(data))

    def to_plain(self) -> list[Any]:
        return [self.digest.hex(), self.size]

    @staticmethod
    def from_plain(plain: list[Any]) -> Form:
        return Form(bytes.fromhex(plain[0]), int(plain[1]))


@dataclass(frozen=True, slots=True)
class Growth:
    """Of a part that only grows: the rows of its arrays, and the chains of its forms, so that whoever holds an older
    one can be given what came since.
    """

    rows: Mapping[str, int]
    down: Chain
    full: Chain

    @staticmethod
    def of(arrays: Arrays, spec: Spec, chains: Chains) -> Growth | None:
        """None where no array of the part grows."""
        rows = {name: len(array) for name, array in arrays.items() if grows(spec, name)}
        return Growth(rows, chains.down, chains.full) if rows and chains.follows_any else None

    def to_plain(self) -> list[Any]:
        return [dict(self.rows), self.down.to_plain(), self.full.to_plain()]

    @staticmethod
    def from_plain(plain: list[Any]) -> Growth:
        return Growth(plain[0], Chain.from_plain(plain[1]), Chain.from_plain(plain[2]))


@dataclass(frozen=True, slots=True)
class Published:
    """One part: the arrays as every receiver decodes them, and its forms."""

    spec: Spec
    arrays: Arrays
    full: Form
    delta: Form | None
    growth: Growth | None = None


@dataclass(frozen=True, slots=True)
class Broadcast:
    """All parts of one exchange, in the order of the plan."""

    parts: Mapping[str, Published]

    @property
    def reference(self) -> Arrays:
        """What both ends know of the broadcast: the reference of the answers."""
        return merge_parts({name: part.arrays for name, part in self.parts.items()})

    @property
    def names(self) -> dict[str, bytes]:
        """Part -> the digest of its full form; equal digests are equal parts."""
        return {name: part.full.digest for name, part in self.parts.items()}

    def digests(self) -> Iterator[bytes]:
        """Of all payloads."""
        for part in self.parts.values():
            yield part.full.digest
            if part.delta is not None:
                yield part.delta.digest

    def without_arrays(self) -> Broadcast:
        """Without the memory of a model: no base for the next broadcast."""
        return Broadcast({name: replace(part, arrays={}) for name, part in self.parts.items()})

    def to_plain(self) -> list[Any]:
        """What the row of the exchange keeps of each part: name, spec, full form, delta form, growth where it grows."""
        return [
            [name, part.spec.to_plain(), part.full.to_plain(), part.delta and part.delta.to_plain()]
            + ([] if part.growth is None else [part.growth.to_plain()])
            for name, part in self.parts.items()
        ]


def publish_task(task: Task, chains: Chains, seed: int, base: Broadcast | None, keep: Keep) -> Broadcast:
    """The broadcast of a task, stored. `seed`: of the run. Raises: `CodecError`, and what `keep` raises."""
    parts = {}
    for name, arrays in task.parts.items():
        before = base.parts.get(name) if base is not None else None
        known = None if before is None else Part(before.spec, before.arrays, b"")
        spec = task.spec(name)
        part = publish(arrays, chains, spec=spec, base=known, seed=broadcast_seed(seed, task.round, task.step))
        delta = None if part.delta is None else Form.of(part.delta, keep)
        growth = Growth.of(part.arrays, spec, chains)
        parts[name] = Published(spec, part.arrays, Form.of(part.full, keep), delta, growth)
    return Broadcast(parts)


def reload_broadcast(plain: list[Any], chains: Chains, seed: int, content: Content) -> Broadcast:
    """The broadcast that `to_plain` described. `seed`: of the broadcast. Raises: `CodecError`, and what `content`
    raises.
    """
    parts = {}
    for name, spec_plain, full_plain, delta_plain, *_ in plain:
        spec, full = Spec.from_plain(spec_plain), Form.from_plain(full_plain)
        delta = None if delta_plain is None else Form.from_plain(delta_plain)
        arrays = receive(content(full.digest), spec, chains, seed=seed)
        parts[name] = Published(spec, arrays, full, delta, Growth.of(arrays, spec, chains))
    return Broadcast(parts)


def digests_of(plain: list[Any]) -> Iterator[bytes]:
    """The payloads that a stored broadcast names."""
    for _, _, full, delta, *_ in plain:
        yield bytes.fromhex(full[0])
        if delta is not None:
            yield bytes.fromhex(delta[0])


def names_of(plain: list[Any]) -> dict[str, bytes]:
    """`Broadcast.names` of a stored broadcast."""
    return {name: bytes.fromhex(full[0]) for name, _, full, *_ in plain}


def grown(parts: list[Any], older: list[Any], content: Content) -> dict[str, bytes]:
    """Part -> its delta for whoever holds the parts of this older exchange of the run, of those that only grow.

    Raises what `content` raises.
    """
    had = {part[0]: Growth.from_plain(part[4]) for part in older if len(part) > 4}
    found = {}
    for name, spec_plain, full_plain, _, *rest in parts:
        if not rest or name not in had:
            continue
        spec, growth = Spec.from_plain(spec_plain), Growth.from_plain(rest[0])
        chains = Chains(down=growth.down, full=growth.full)
        arrays = receive(content(Form.from_plain(full_plain).digest), spec, chains)
        found[name] = since(arrays, spec, chains, had[name].rows)
    return found


def part_messages(
    parts: list[Any],
    held: Mapping[str, bytes],
    *,
    is_previous: bool,
    inline: bool,
    first: bool,
    content: Content,
    since: Mapping[str, bytes] | None = None,
) -> list[PartMessage]:
    """The parts of a stored broadcast as one client gets them. `held`: part -> digest of what it holds, of the previous
    exchange or an older one; `inline`: whether small parts may travel inside the message; `first`: whether this is the
    run's first exchange (`travels_inside`); `since`: part -> what has been added to what it holds (`grown`). Raises
    what `content` raises.
    """
    room = MAX_INLINE_BYTES if inline else -1
    messages = []
    for name, _, full_plain, delta_plain, *_ in parts:
        full = Form.from_plain(full_plain)
        if held.get(name) == full.digest:
            messages.append(PartMessage(form="held"))
            continue
        added = (since or {}).get(name)
        if added is not None and len(added) <= min(room, full.size):
            room -= len(added)
            messages.append(PartMessage(form="delta", inline=added))
            continue
        delta = Form.from_plain(delta_plain) if delta_plain is not None and is_previous and name in held else None
        form = delta or full
        if travels_inside(form.size, room, first=first):
            room -= form.size
            messages.append(PartMessage(form="delta" if delta else "full", inline=content(form.digest)))
        else:
            messages.append(PartMessage(form="delta" if delta else "full", digest=form.digest, size=form.size))
    return messages
