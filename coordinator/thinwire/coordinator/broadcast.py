"""What an exchange sends: parts published as payloads, and which form of each a client gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from thinwire.codecs import Arrays, Spec
from thinwire.methods.chains import Chains
from thinwire.methods.payloads import Part, merge_parts, publish, receive
from thinwire.methods.values import Task
from thinwire.protocol.identity import broadcast_seed
from thinwire.protocol.messages import MAX_INLINE_BYTES, PartMessage

from .folder import Folder, read_mapped


@dataclass(frozen=True, slots=True)
class Form:
    """A payload: its name, its size, and its bytes where it is small enough to travel inline."""

    digest: bytes
    size: int
    inline: bytes | None = None

    @staticmethod
    def of(folder: Folder, data: bytes) -> Form:
        """Written to the folder."""
        return Form(folder.put_payload(data), len(data), data if len(data) <= MAX_INLINE_BYTES else None)

    def to_plain(self) -> list[Any]:
        return [self.digest.hex(), self.size]

    @staticmethod
    def from_plain(folder: Folder, plain: list[Any]) -> Form:
        digest, size = bytes.fromhex(plain[0]), int(plain[1])
        inline = folder.payload(digest).read_bytes() if size <= MAX_INLINE_BYTES else None
        return Form(digest, size, inline)


@dataclass(frozen=True, slots=True)
class Published:
    """One part: the arrays as every receiver decodes them, and its forms."""

    spec: Spec
    arrays: Arrays
    full: Form
    delta: Form | None


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

    def messages(self, held: Mapping[str, bytes], *, is_previous: bool, inline: bool) -> list[PartMessage]:
        """The parts as one client gets them. `held`: part -> digest of what it holds, of the previous exchange or
        an older one; `inline`: whether small parts may travel inside the message.
        """
        room = MAX_INLINE_BYTES if inline else -1
        messages = []
        for name, part in self.parts.items():
            if held.get(name) == part.full.digest:
                messages.append(PartMessage(form="held"))
                continue
            delta = part.delta if is_previous and name in held else None
            form = delta or part.full
            if form.inline is not None and form.size <= room:
                room -= form.size
                message = PartMessage(form="delta" if delta else "full", inline=form.inline)
            else:
                message = PartMessage(form="delta" if delta else "full", digest=form.digest, size=form.size)
            messages.append(message)
        return messages

    def without_arrays(self) -> Broadcast:
        """What clients may still ask for, without the memory of a model: no base for the next broadcast."""
        return Broadcast({name: replace(part, arrays={}) for name, part in self.parts.items()})

    def to_plain(self) -> list[Any]:
        """What the store keeps; the payloads themselves lie in the folder."""
        return [
            [name, part.spec.to_plain(), part.full.to_plain(), part.delta and part.delta.to_plain()]
            for name, part in self.parts.items()
        ]


def publish_task(task: Task, chains: Chains, seed: int, base: Broadcast | None, folder: Folder) -> Broadcast:
    """The broadcast of a task, written to the folder. Raises: `CodecError`, `OSError`."""
    parts = {}
    for name, arrays in task.parts.items():
        before = base.parts.get(name) if base is not None else None
        known = None if before is None else Part(before.spec, before.arrays, b"")
        part = publish(arrays, chains, base=known, seed=broadcast_seed(seed, task.round, task.step))
        delta = None if part.delta is None else Form.of(folder, part.delta)
        parts[name] = Published(part.spec, part.arrays, Form.of(folder, part.full), delta)
    return Broadcast(parts)


def reload_broadcast(plain: list[Any], chains: Chains, seed: int, folder: Folder) -> Broadcast:
    """The broadcast that `to_plain` described. `seed`: of the broadcast. Raises: `CodecError`, `OSError`."""
    parts = {}
    for name, spec_plain, full_plain, delta_plain in plain:
        spec = Spec.from_plain(spec_plain)
        full = Form.from_plain(folder, full_plain)
        delta = None if delta_plain is None else Form.from_plain(folder, delta_plain)
        # A mapped file reads like bytes; the codecs only slice it and view it.
        data = cast(bytes, full.inline if full.inline is not None else read_mapped(folder.payload(full.digest)))
        parts[name] = Published(spec, receive(data, spec, chains, seed=seed), full, delta)
    return Broadcast(parts)


def digests_of(plain: list[Any]) -> Iterator[bytes]:
    """The payloads that a stored broadcast names."""
    for _, _, full, delta in plain:
        yield bytes.fromhex(full[0])
        if delta is not None:
            yield bytes.fromhex(delta[0])


def names_of(plain: list[Any]) -> dict[str, bytes]:
    """`Broadcast.names` of a stored broadcast."""
    return {name: bytes.fromhex(full[0]) for name, _, full, _ in plain}
