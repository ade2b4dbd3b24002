"""Golden vectors: what was written once is decoded for ever, and written again the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thinwire.codecs import CODECS, Chain, Spec
from thinwire.methods.arrays import same_bits

from .write_vectors import FOLDER, arrays_of, cases

NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
MACHINE_DEPENDENT = {"low_rank"}
"""Encoders whose last bit is LAPACK's; their payloads are decoded for ever all the same."""


def _vector(name: str) -> tuple[dict[str, Any], Chain, Spec, bytes]:
    found = json.loads((FOLDER / f"{name}.json").read_text())
    return (
        found,
        Chain.from_plain(found["chain"]),
        Spec.from_plain(found["spec"]),
        (FOLDER / f"{name}.bin").read_bytes(),
    )


def test_every_case_has_its_vector() -> None:
    assert set(cases()) == set(NAMES)
    assert {path.stem for path in Path(FOLDER).glob("*.bin")} == set(NAMES)


def test_every_codec_has_a_vector() -> None:
    used = {codec["name"] for name in NAMES for codec in _vector(name)[0]["chain"]}
    assert used == set(CODECS)


@pytest.mark.parametrize("name", NAMES)
def test_decoded_for_ever(name: str) -> None:
    found, chain, spec, payload = _vector(name)
    reference = None if found["reference"] is None else arrays_of(found["reference"], spec)
    decoded = chain.decode(payload, spec, reference=reference, seed=found["seed"])
    assert same_bits(decoded, arrays_of(found["decoded"], spec))


@pytest.mark.parametrize("name", NAMES)
def test_written_again_the_same(name: str) -> None:
    found, chain, spec, payload = _vector(name)
    reference = None if found["reference"] is None else arrays_of(found["reference"], spec)
    arrays = arrays_of(found["arrays"], spec)
    again = chain.encode(arrays, spec, reference=reference, seed=found["seed"])
    if {codec.name for codec in chain.array_codecs} & MACHINE_DEPENDENT:
        decoded = chain.decode(again, spec, reference=reference, seed=found["seed"])
        for key, array in arrays_of(found["decoded"], spec).items():
            np.testing.assert_allclose(decoded[key], array, rtol=1e-5, atol=1e-6)
    elif {codec.name for codec in chain.bytes_codecs} & {"zstd"}:
        # Another release of Zstandard may find another frame; it must unfold into the same arrays.
        decoded = chain.decode(again, spec, reference=reference, seed=found["seed"])
        assert same_bits(decoded, arrays_of(found["decoded"], spec))
    else:
        assert again == payload
