"""Whoever holds an upload last writes its chunks; nobody else does."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from tests.records.house import NOW, House
from thinwire.coordinator.records import tables
from thinwire.coordinator.records.chunks import Chunk, Chunks, UploadLostError

LIVES_S, EXPIRES_S = 3600.0, 60.0


def two(house: House) -> tuple[Chunks, Chunks]:
    """Two coordinators; the first lives and holds the upload `u` of `a`."""
    database = house.records.database
    lease = house.run()
    house.enrol("a", "b")
    task, _ = house.exchange(lease, 0, "a", "b")
    house.do(house.leases.beat("one", LIVES_S))
    house.do(house.uploads.create("u", task, "a", 100, b"d" * 32, NOW, "one"))
    return Chunks(database, "one"), Chunks(database, "two")


def test_an_upload_goes_on_where_its_chunks_end(house: House) -> None:
    one, other = two(house)
    house.do(one.add("u", 0, 0, 40))
    house.do(one.add("u", 0, 40, 30))
    assert house.do(other.take("u", "a")) is None
    house.do(one.leave("u", 0))
    taken = house.do(other.take("u", "a"))
    assert taken is not None
    assert (taken.epoch, taken.offset, taken.row.length, taken.row.client) == (1, 70, 100, "a")
    assert house.do(other.of("u")) == [Chunk(0, 40, 0), Chunk(40, 30, 0)]
    again = house.do(other.take("u", "a"))
    assert again is not None
    assert again.epoch == 2


def test_whoever_was_left_behind_writes_nothing(house: House) -> None:
    one, other = two(house)
    taken = house.do(other.take("u", "a", force=True))
    assert taken is not None
    with pytest.raises(UploadLostError):
        house.do(one.add("u", 0, 0, 40))
    house.do(one.leave("u", 0))
    house.do(house.leases.beat("two", LIVES_S))
    assert house.do(one.take("u", "a")) is None
    house.do(other.add("u", taken.epoch, 0, 40))
    assert house.do(one.of("u")) == [Chunk(0, 40, 1)]


def test_of_who_lives_no_more_an_upload_is_taken_at_once(house: House) -> None:
    _, other = two(house)
    assert house.do(other.take("u", "a")) is None
    house.do(house.leases.leave("one"))
    assert house.do(other.take("u", "a")) is not None


def test_nobody_else_sees_it(house: House) -> None:
    one, other = two(house)
    for upload, client in (("u", "b"), ("none", "a")):
        assert house.records.reason(other.take(upload, client, force=True)) == "upload-not-found"
    assert house.do(one.begun(client="a")) == ["u"]
    assert house.do(one.begun(client="b")) == house.do(one.begun(task="none")) == []


def test_what_is_over_is_swept(house: House) -> None:
    one, other = two(house)
    task = house.do(house.uploads.all())[0].task
    house.do(house.uploads.create("v", task, "a", 100, b"e" * 32, NOW, "two"))
    taken = house.do(other.take("v", "a", force=True))
    assert taken is not None
    for upload, epoch in (("u", 0), ("v", taken.epoch)):
        house.do(one.add(upload, epoch, 0, 40))
    assert house.do(one.sweep(EXPIRES_S)) == {"u", "v"}
    # Long ago: of one that is held by who lives, and of one whose holder is gone.
    house.records.write(update(tables.uploads).values(touched_at=1.0))
    assert house.do(one.sweep(EXPIRES_S)) == {"u"}
    assert house.do(one.of("v")) == []
    house.do(house.uploads.delete(["u"]))
    assert house.do(one.sweep(EXPIRES_S)) == set()
    assert house.do(one.of("u")) == []
    with pytest.raises(UploadLostError):
        house.do(one.add("u", 0, 40, 10))
