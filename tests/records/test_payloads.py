"""Payloads, uploads: who names what, and what is on its way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.records.house import CLOSING, DELTA, MODEL, NOW, OPENED, PART, PLAN, PRIVATE, House
from thinwire.coordinator.records.leases import Lease
from thinwire.coordinator.records.payloads import Named
from thinwire.coordinator.records.tasks import NewTask
from thinwire.coordinator.records.uploads import UploadRow
from thinwire.coordinator.runs.best import Best


def test_a_payload_is_named_by_whoever_needs_it_the_newest_first(house: House) -> None:
    house.enrol("a", "b")
    first, second = house.run("run1", payloads="public"), house.run("run2", group="ward", now=NOW + 1)
    for index in range(2):
        house.do(house.exchanges.open(first, replace(OPENED, exchange=index, kind=f"k{index}"), [PART], NOW))
    house.exchange(second)
    new = [NewTask(name, slot, 1, name, [PRIVATE.hex(), 8, {}]) for slot, name in enumerate("ab")]
    house.do(house.tasks.offer(first, 1, new))
    open_to_all = Named("run1", "default", 1, PART, "part", "", public=True, exchange_kind="k1")
    assert house.do(house.payloads.named(PART)) == [
        Named("run2", "ward", 0, PART, "part", "", public=False, exchange_kind="train"),
        open_to_all,
        replace(open_to_all, exchange=0, exchange_kind="k0"),
    ]
    assert house.do(house.payloads.named(PRIVATE)) == [
        replace(open_to_all, digest=PRIVATE, kind="private", client=name) for name in "ab"
    ]
    assert house.do(house.payloads.named(b"z" * 32)) == []
    assert {one.digest for one in house.do(house.payloads.of("run1", 1))} == {PLAN, PART, PRIVATE}
    assert house.do(house.payloads.needed(Lease("run1", "", 0))) == {PLAN, PART, PRIVATE}
    assert sorted(house.do(house.payloads.all_needed())) == sorted(
        [*(("run1", digest) for digest in (PLAN, PART, PRIVATE)), *(("run2", digest) for digest in (PLAN, PART, DELTA))]
    )

    house.do(house.runs.finish(second, "completed", None, MODEL, NOW))
    model = Named("run2", "ward", None, MODEL, "model", "", public=False, exchange_kind=None)
    assert house.do(house.payloads.named(MODEL)) == [model]


@pytest.mark.parametrize("model", [None, MODEL])
def test_a_finished_run_needs_its_model_alone(house: House, model: bytes | None) -> None:
    lease = house.run()
    house.exchange(lease)
    house.do(house.runs.finish(lease, "stopped", None, model, NOW))
    assert house.do(house.payloads.needed(Lease("run1", "", 0))) == (set() if model is None else {model})


def test_what_a_best_model_is_made_of_is_needed_until_it_is_a_file(house: House) -> None:
    lease, best = house.run(), Best("f1", 0.5, 0, 0)
    sent = [bytes([16 + index]) * 32 for index in range(4)]
    for index in range(3):
        opened = replace(OPENED, exchange=index, plan=sent[3])
        house.do(house.exchanges.open(lease, opened, [sent[index]], NOW))
        house.do(house.exchanges.close(lease, replace(CLOSING, exchange=index), index + 1, 0, NOW, [best]))
        assert house.do(house.runs.get("run1")).best == (best,)
    assert house.do(house.payloads.needed(Lease("run1", "", 0))) == {sent[0], sent[2], sent[3]}
    stored = replace(best, model=b"f" * 32)
    for files in ([stored], [stored, replace(stored, score="loss", model=MODEL)]):
        house.do(house.runs.finish(lease, "completed", None, MODEL, NOW, files))
        assert house.do(house.payloads.needed(Lease("run1", "", 0))) == {MODEL, b"f" * 32}
        assert house.do(house.runs.get("run1")).best == tuple(files)


def test_uploads_are_there_until_they_are_deleted(house: House) -> None:
    house.enrol("a", "b")
    lease = house.run()
    tasks = house.exchange(lease, 0, "a", "b")
    made = []
    for number, (task, client) in enumerate([(tasks[0], "a"), (tasks[1], "b"), (tasks[0], "a")]):
        upload = house.uploads.create(f"u{number}", task, client, 80 + number, b"d" * 32, NOW + number)
        made.append(house.do(upload))
    assert made[1] == UploadRow("u1", tasks[1], "b", "run1", 0, "train", 81, b"d" * 32, "open", NOW + 1)
    assert house.do(house.uploads.create("u1", tasks[1], "b", 999, b"e" * 32, NOW + 9)) == made[1]
    assert house.do(house.uploads.all()) == made
    house.do(house.tasks.decline(tasks[1], "b", "", NOW))
    assert [one.task_state for one in house.do(house.uploads.all())] == ["open", "late", "open"]
    house.do(house.uploads.delete([]))
    for _ in range(2):
        house.do(house.uploads.delete(["u0", "none"]))
        assert [one.id for one in house.do(house.uploads.all())] == ["u1", "u2"]
    house.do(house.exchanges.close(lease, CLOSING, 1, 0, NOW))
    assert house.do(house.uploads.all()) == []
