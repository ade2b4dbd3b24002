"""Two that take in uploads over one database and one store: what one has begun the other goes on with."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.serve.house import PATIENCE_S, House, reason_of
from thinwire.coordinator.objects.partial import CHUNK, Partials
from thinwire.coordinator.records.chunks import Chunks as ChunkRows
from thinwire.coordinator.records.leases import Leases
from thinwire.coordinator.serve.chunks import Chunks
from thinwire.coordinator.serve.noting import Noting
from thinwire.coordinator.serve.upload import Upload
from thinwire.coordinator.serve.uploads import Uploads
from thinwire.protocol.reasons import ProblemError

DATA = bytes(range(251)) * (9 * CHUNK // 251 // 4)  # two chunks and a quarter
DIGEST = hashlib.sha256(DATA).digest()
LIVES_S = 3600.0


@dataclass
class One:
    """One of the two, with a folder of its own."""

    name: str
    uploads: Uploads
    partials: Partials
    rows: ChunkRows


@contextlib.asynccontextmanager
async def replica(house: House, name: str) -> AsyncIterator[One]:
    partials, rows = Partials(house.folder / name), ChunkRows(house.database, name)
    partials.open()
    await Leases(house.database).beat(name, LIVES_S)
    uploads = Uploads(
        house.upload_rows, partials, house.objects, house.signals, house.quotas, house.workers,
        Noting(house.troubles, house.signals), expires_s=60.0, shared=True,
        chunks=Chunks(rows, partials, house.objects, house.signals, house.workers),
    )  # fmt: skip
    await uploads.load()
    following = asyncio.create_task(uploads.follow())
    await asyncio.sleep(0)  # it has begun to listen
    try:
        yield One(name, uploads, partials, rows)
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


Act = Callable[[House, One, One, str], Awaitable[None]]


@pytest.fixture
def two(tmp_path: Path) -> Callable[[Act], None]:
    """Plays with two of them and a task of `ann`."""

    def run(act: Act) -> None:
        async def play() -> None:
            async with (
                House(tmp_path / "data").open() as house,
                replica(house, "one") as one,
                replica(house, "other") as other,
            ):
                client = await house.enrol("ann")
                await house.run()
                await house.exchange()
                await act(house, one, other, await house.ask(client))

        asyncio.run(play())

    return run


async def begin(house: House, one: One, task: str) -> Upload:
    return await one.uploads.create(await house.book.find(task, "ann"), len(DATA), DIGEST)


def append(one: One, upload: Upload, size: int) -> None:
    with one.uploads.reading(upload) as reader:
        reader.append(DATA[upload.offset : upload.offset + size])


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.001)


def chunks(house: House) -> list[str]:
    return house.objects.names("chunks")


async def finish(house: House, one: One, upload: Upload) -> bytes:
    """What whoever completes it is given."""
    given: list[bytes] = []
    done = await one.uploads.complete(upload.id, upload.task.id, "ann", lambda path: given.append(path.read_bytes()))
    await house.upload_rows.delete([upload.id])
    one.uploads.end(done)
    await one.uploads.close()
    return given[0]


def test_what_one_has_begun_the_other_goes_on_with(two: Callable[[Act], None]) -> None:
    async def act(house: House, one: One, other: One, task: str) -> None:
        upload = await begin(house, one, task)
        append(one, upload, 1000)
        assert chunks(house) == []
        there = await other.uploads.locate(upload.id, "ann")
        assert (there.offset, there.interrupted) == (1000, True)
        assert one.partials.ids() == set()
        with pytest.raises(ProblemError) as caught:
            one.uploads.find(upload.id, "ann")
        assert reason_of(caught.value) == "upload-not-found"
        append(other, there, len(DATA))
        # And back: nothing of it has to be sent again.
        assert (await begin(house, one, task)).offset == len(DATA)
        back = await one.uploads.locate(upload.id, "ann")
        assert await finish(house, one, back) == DATA
        assert chunks(house) == []
        assert await one.rows.of(upload.id) == []

    two(act)


def test_the_death_of_one_costs_at_most_a_chunk(two: Callable[[Act], None]) -> None:
    async def act(house: House, one: One, other: One, task: str) -> None:
        upload = await begin(house, one, task)
        append(one, upload, len(DATA) - 1)
        await until(lambda: upload.stored == 2 * CHUNK)
        await Leases(house.database).leave("one")
        there = await other.uploads.locate(upload.id, "ann")
        assert there.offset == 2 * CHUNK
        # It was only frozen: what it still takes in counts nowhere, and it finds out.
        append(one, upload, 1)
        upload.stored_at -= 1000
        await one.uploads.save()
        assert one.partials.ids() == set()
        append(other, there, len(DATA))
        assert await finish(house, other, there) == DATA

    two(act)


def test_a_slow_link_loses_little(two: Callable[[Act], None]) -> None:
    async def act(house: House, one: One, other: One, task: str) -> None:
        upload = await begin(house, one, task)
        append(one, upload, 700)
        await one.uploads.save()
        assert chunks(house) == []
        upload.stored_at -= 1000
        await one.uploads.save()
        assert upload.stored == 700
        assert len(chunks(house)) == 1
        await Leases(house.database).leave("one")
        assert (await other.uploads.locate(upload.id, "ann")).offset == 700

    two(act)


def test_what_is_still_to_be_checked_is_not_stored(two: Callable[[Act], None]) -> None:
    async def act(house: House, one: One, other: One, task: str) -> None:
        upload = await begin(house, one, task)
        append(one, upload, 100)
        with one.uploads.reading(upload, checked=True) as reader:
            reader.append(b"x" * (CHUNK + 9))
            assert upload.sure == 100
            reader.rewind()
        assert upload.sure == upload.offset == 100
        there = await other.uploads.locate(upload.id, "ann")
        append(other, there, len(DATA))
        assert await finish(house, other, there) == DATA

    two(act)


@pytest.mark.parametrize("over", ["forgotten", "client", "closed", "another"])
def test_nothing_is_left_of_what_is_over(two: Callable[[Act], None], over: str) -> None:
    async def act(house: House, one: One, other: One, task: str) -> None:
        upload = await begin(house, one, task)
        append(one, upload, len(DATA))
        await until(lambda: upload.stored == 2 * CHUNK)
        if over == "forgotten":
            await other.uploads.forget(await other.uploads.locate(upload.id, "ann"))
        elif over == "client":
            await other.uploads.release_client("ann")
        elif over == "closed":
            await house.close()
            await until(lambda: not one.partials.ids())
        else:
            new = await other.uploads.create(await house.book.find(task, "ann"), 5, bytes(32))
            await other.uploads.forget(new)
        await other.uploads.sweep()
        await until(lambda: chunks(house) == [])
        assert await other.rows.sweep(60.0) == set()
        upload.stored_at -= 1000
        await one.uploads.save()
        assert one.partials.ids() == other.partials.ids() == set()
        for each in (one, other):
            with pytest.raises(ProblemError):
                await each.uploads.locate(upload.id, "ann")

    two(act)


def test_the_end_of_a_process_keeps_everything(two: Callable[[Act], None]) -> None:
    async def act(house: House, one: One, other: One, task: str) -> None:
        upload = await begin(house, one, task)
        append(one, upload, 12345)
        await one.uploads.close()
        assert (await other.uploads.locate(upload.id, "ann")).offset == 12345

    two(act)
