"""Uploads: no byte that arrived is asked for again, one reader at a time, nothing left of what is over."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.serve.conftest import Play
from tests.serve.house import PATIENCE_S, House
from thinwire.coordinator.objects.objects import answer
from thinwire.coordinator.serve.upload import Upload
from thinwire.protocol.messages import AnswerMessage
from thinwire.protocol.reasons import ProblemError

Stage = Callable[[Play], None]
DATA = bytes(range(256)) * 8
DIGEST = hashlib.sha256(DATA).digest()


async def begun(house: House, name: str = "ann") -> Upload:
    """An upload of `DATA` of which nothing has arrived."""
    client = await house.enrol(name)
    if "run001" not in house.leases:
        await house.run()
        await house.exchange()
    task = await house.ask(client)
    return await house.uploads.create(await house.book.find(task, name), len(DATA), DIGEST)


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(ProblemError) as caught:
        call()
    return caught.value.reason


def test_it_grows_piece_by_piece_and_nobody_else_sees_it(play: Stage) -> None:
    async def act(house: House) -> None:
        upload = await begun(house)
        assert await house.uploads.create(upload.task, len(DATA), DIGEST) is upload
        for begins in range(0, len(DATA), 700):
            with house.uploads.reading(upload) as reader:
                assert reader.begins == begins == upload.offset
                reader.append(DATA[begins : begins + 700])
        assert house.partials.path(upload.id).read_bytes() == DATA
        with house.uploads.reading(upload) as reader:
            assert reason(lambda: reader.append(b"x")) == "upload-too-large"
        assert house.uploads.find(upload.id, "ann") is upload
        assert reason(lambda: house.uploads.find(upload.id, "eve")) == "upload-not-found"
        await house.uploads.forget(upload)
        assert reason(lambda: house.uploads.find(upload.id, "ann")) == "upload-not-found"
        assert house.partials.ids() == set()

    play(act)


def test_only_the_newest_reader_appends(play: Stage) -> None:
    async def act(house: House) -> None:
        upload = await begun(house)
        with house.uploads.reading(upload) as older:
            older.append(DATA[:10])
            with house.uploads.reading(upload) as newer:
                assert reason(lambda: older.append(DATA[10:20])) == "upload-offset"
                assert reason(older.rewind) == "upload-offset"
                newer.append(DATA[10:20])
                house.uploads.stop("ann")
                assert reason(lambda: newer.append(DATA[20:30])) == "upload-offset"
        assert house.partials.path(upload.id).read_bytes() == DATA[:20]

    play(act)


def test_what_does_not_have_its_checksum_is_forgotten(play: Stage) -> None:
    async def act(house: House) -> None:
        upload = await begun(house)
        with house.uploads.reading(upload) as reader:
            reader.append(DATA[:100])
        with house.uploads.reading(upload) as reader:
            reader.append(DATA[100:300])
            found = await house.uploads.checksum(upload, reader, "sha1")
            assert found == hashlib.sha1(DATA[100:300], usedforsecurity=False).digest()
            reader.rewind()
        assert (upload.offset, house.partials.offset(upload.id)) == (100, 100)

    play(act)


def test_the_offset_is_told_when_the_older_connection_is_drained(play: Stage) -> None:
    """What it still delivers is taken; when it ends, its client need not wait any longer."""

    async def act(house: House) -> None:
        upload = await begun(house)
        begin = asyncio.Event()

        async def deliver() -> None:
            await begin.wait()
            with house.uploads.reading(upload) as reader:
                for begins in range(0, 1000, 100):
                    reader.append(DATA[begins : begins + 100])
                    await asyncio.sleep(0)

        delivering = asyncio.create_task(deliver())
        asking = asyncio.create_task(upload.settle())
        await asyncio.sleep(0)
        begin.set()  # the request is read in the turn of the loop in which the other one asks
        assert await asking == 1000
        await delivering

    play(act)


def test_a_silent_connection_is_cut_off(play: Stage) -> None:
    async def act(house: House) -> None:
        upload = await begun(house)
        with house.uploads.reading(upload) as silent:
            silent.append(DATA[:10])
            assert await upload.settle() == 10
            assert reason(lambda: silent.append(DATA[10:20])) == "upload-offset"
        assert await upload.settle() == 10

    play(act)


def test_another_payload_for_the_task_takes_the_place_of_the_first(play: Stage) -> None:
    async def act(house: House) -> None:
        upload = await begun(house)
        other = await house.uploads.create(upload.task, 5, bytes(32))
        assert house.partials.ids() == {other.id}
        assert [row.id for row in await house.upload_rows.all()] == [other.id]

    play(act)


@pytest.mark.parametrize("over", ["closed", "client", "expired"])
def test_nothing_is_left_of_what_is_over(play: Stage, over: str) -> None:
    async def act(house: House) -> None:
        upload, stays = await begun(house), await begun(house, "bob")
        if over == "closed":
            await house.run("run002")
            await house.exchange("run002")
            task = await house.ask(await house.enrol("cat"), "run002")
            stays = await house.uploads.create(await house.book.find(task, "cat"), 10, bytes(32))
            await house.close()
            async with asyncio.timeout(PATIENCE_S):
                while upload.id in house.partials.ids():
                    await asyncio.sleep(0)
        elif over == "client":
            await house.uploads.release_client("ann")
        else:
            stays.touched_at += 1000
            await house.uploads.expire(time.monotonic() + 61)
        assert upload.id not in house.partials.ids()
        assert stays.id in house.partials.ids()
        assert reason(lambda: house.uploads.find(upload.id, "ann")) == "upload-not-found"
        assert upload.id not in {row.id for row in await house.upload_rows.all()}

    play(act)


def test_an_upload_expires_by_the_time_that_passes(play: Stage) -> None:
    """The wall clock jumps by years, both ways."""

    async def act(house: House) -> None:
        upload = await begun(house)
        for jump_s in (1e8, -2e8):
            house.now += jump_s
            await house.uploads.expire(time.monotonic())
            assert house.uploads.find(upload.id, "ann") is upload
            assert 0 < house.uploads.expires_at(upload) - house.now <= 60.0

    play(act)


def test_they_outlive_the_process(tmp_path: Path) -> None:
    """Also one that became an answer which nobody noted; what has no row or no file is forgotten."""

    async def first() -> dict[str, str]:
        async with House(tmp_path).open() as house:
            uploads = {name: await begun(house, name) for name in ("half", "taken", "lost", "noted")}
            for name, upload in uploads.items():
                with house.uploads.reading(upload) as reader:
                    reader.append(DATA if name in ("taken", "noted") else DATA[:99])
            task = uploads["noted"].task.id
            async with house.deciding():
                assert await house.answers.answer("noted", task, AnswerMessage(examples=1, upload=uploads["noted"].id))
            await house.upload_rows.create(uploads["noted"].id, task, "noted", len(DATA), DIGEST, house.now)
            taken = uploads["taken"]
            house.objects.take(house.partials.path(taken.id), answer(taken.task.id), durable=False)
            house.partials.delete([uploads["lost"].id])
            house.partials.create("stray")
            return {name: upload.id for name, upload in uploads.items()}

    async def second(ids: dict[str, str]) -> None:
        async with House(tmp_path).open() as house:
            assert house.partials.ids() == {ids["half"]}
            half = house.uploads.find(ids["half"], "half")
            assert (half.offset, half.interrupted) == (99, True)
            with house.uploads.reading(half) as reader:
                reader.append(DATA[99:])
            for name in ("half", "taken"):
                upload = house.uploads.find(ids[name], name)
                assert upload.offset == len(DATA)
                async with house.deciding():
                    message = AnswerMessage(examples=1, upload=upload.id)
                    assert await house.answers.answer(name, upload.task.id, message) == "accepted"
                assert house.objects.local(answer(upload.task.id)).read_bytes() == DATA
            for name in ("lost", "noted"):
                assert reason(partial(house.uploads.find, ids[name], name)) == "upload-not-found"
            assert await house.upload_rows.all() == []

    asyncio.run(second(asyncio.run(first())))


def test_a_full_disk_keeps_what_arrived(play: Stage) -> None:
    async def act(house: House) -> None:
        upload = await begun(house)

        def append() -> None:
            with house.uploads.reading(upload) as reader:
                reader.append(DATA[:50])
                raise OSError(28, "No space left on device")

        assert reason(append) == "storage-full"
        assert house.troubles.of("run001") != []
        assert (upload.offset, upload.interrupted) == (50, True)
        with house.uploads.reading(upload) as reader:
            reader.append(DATA[50:60])
        assert house.troubles.of("run001") == []

    play(act)


def test_a_task_takes_an_upload_only_while_somebody_waits_for_it(play: Stage) -> None:
    async def act(house: House) -> None:
        ann, bob = await house.enrol("ann"), await house.enrol("bob")
        await house.run()
        await house.exchange()
        mine, given_up = await house.ask(ann), await house.ask(bob)
        facts = await house.book.find(mine, "ann")
        assert await house.book.takes_up_to(facts) == 1 << 20
        await house.answers.decline("bob", given_up, "no")
        with pytest.raises(ProblemError):
            await house.book.takes_up_to(await house.book.find(given_up, "bob"))
        await house.close()
        with pytest.raises(ProblemError) as caught:
            await house.book.takes_up_to(facts)
        assert caught.value.reason == "task-not-found"

    play(act)
