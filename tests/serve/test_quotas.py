"""No quota is ever exceeded, and whoever is refused is told which one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.coordinator.serve.quotas import Limits, Quotas
from thinwire.protocol.reasons import ProblemError


@dataclass(frozen=True)
class Upload:
    """What quotas look at."""

    client: str
    run: str
    length: int


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("rs"), st.integers(0, 40)), max_size=8),
    st.integers(0, 100),
    st.integers(0, 40),
)
def test_no_quota_is_ever_exceeded(wanted: list[tuple[str, str, int]], used: int, disk: int) -> None:
    quotas = Quotas(Limits(3, 60, 80, 150), lambda: used)
    quotas.measure()
    uploads: list[Upload] = []
    for client, run, length in wanted:
        mine = [upload for upload in uploads if upload.client == client]
        fits = {
            "too-many-requests": len(mine) < 3,
            "quota-exceeded": sum(upload.length for upload in mine) + length <= 60
            and sum(upload.length for upload in uploads if upload.run == run) + length <= 80,
            "storage-full": used + sum(upload.length for upload in uploads) + length <= 150,
        }
        refused = next((reason for reason, room in fits.items() if not room), None)
        if refused is None:
            quotas.check_upload(uploads, client, run, length)
            uploads.append(Upload(client, run, length))
        else:
            with pytest.raises(ProblemError) as caught:
                quotas.check_upload(uploads, client, run, length)
            assert caught.value.reason == refused
            assert caught.value.retry
