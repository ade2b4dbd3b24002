"""Contributions on disk are the same arrays again, and leave no file behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from thinwire.coordinator.objects import spool
from thinwire.coordinator.objects.spool import Spool

arrays = st.dictionaries(
    st.sampled_from("abc"),
    hnp.arrays(st.sampled_from([np.float32, np.int64, np.uint8]), hnp.array_shapes(min_dims=0, min_side=0, max_side=5)),
)


@settings(max_examples=50)
@given(kept=st.lists(arrays, max_size=6), segment=st.sampled_from([1, 200, 1 << 20]))
def test_what_is_kept_stays_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, kept: list[dict[str, np.ndarray]], segment: int
) -> None:
    """Also across segments, transposed, and when the spool is gone."""
    folder = tmp_path_factory.mktemp("spool")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "_SEGMENT_BYTES", segment)
        spooled = Spool(folder)
        found = [spooled.keep({name: array.T for name, array in one.items()}) for one in kept]
        del spooled
    assert os.listdir(folder) == []
    for one, again in zip(kept, found, strict=True):
        assert one.keys() == again.keys()
        for name, array in one.items():
            assert again[name].dtype == array.dtype
            np.testing.assert_array_equal(again[name], array.T)


_FULL = """
import sys
from pathlib import Path
import numpy as np
from thinwire.coordinator.objects import spool

spool._SEGMENT_BYTES = 1 << 16
spooled = spool.Spool(Path(sys.argv[1]))
first = spooled.keep({"a": np.arange(1000)})["a"]
try:
    spooled.keep({"a": np.arange(100_000)})
except OSError:
    print(np.array_equal(first, np.arange(1000)), np.array_equal(spooled.keep({"b": first})["b"], first))
"""


def _small_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))


def test_a_full_disk_is_an_error_and_what_is_kept_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=_small_files)
    assert done.stdout.split() == ["True", "True"]
