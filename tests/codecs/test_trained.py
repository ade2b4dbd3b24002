"""On arrays as training makes them, quantised symbols cost their entropy; the page of measurements is up to date."""

from __future__ import annotations

import json

import pytest

from benchmarks import codecs as benchmark
from benchmarks.codecs_inputs import Input, entropy_of_symbols
from benchmarks.codecs_page import page
from benchmarks.trained import trained_arrays
from thinwire.codecs import Arrays, Chain, Spec

pytest.importorskip("sklearn", reason="the digits are scikit-learn's")


@pytest.fixture(scope="module")
def trained() -> dict[str, Arrays]:
    return trained_arrays()


@pytest.mark.parametrize("kind", ["weights", "update", "factors", "logits"])
@pytest.mark.parametrize("grid", ["quantise(8)", "quantise(4)", "quantise(8, per=channel)"])
def test_trained_arrays_cost_the_entropy_of_their_symbols(trained: dict[str, Arrays], kind: str, grid: str) -> None:
    chain, spec = Chain.parse(f"{grid}, entropy"), Spec.of(trained[kind])
    payload = chain.encode(trained[kind], spec, seed=1)
    assert len(payload) <= 1.025 * entropy_of_symbols(chain, Input(kind, trained[kind], (), seed=1))


def test_soft_labels_of_a_trained_network(trained: dict[str, Arrays]) -> None:
    """Well below one bit a value, and far below what logits cost."""
    chain, spec = Chain.parse("soft_labels(4), entropy"), Spec.of(trained["probabilities"])
    rows = trained["probabilities"]["rows"]
    assert 8 * len(chain.encode(trained["probabilities"], spec)) <= 0.7 * rows.size


def test_the_page_is_made_from_the_stored_results() -> None:
    """`python -m benchmarks.codecs --page` writes it again."""
    if not benchmark.OUT.exists():
        pytest.skip("nothing has been measured yet: python -m benchmarks.codecs")
    assert benchmark.PAGE.read_text() == page(json.loads(benchmark.OUT.read_text()))


def test_the_benchmark_measures(trained: dict[str, Arrays]) -> None:
    arrays = {"w": trained["logits"]["rows"][:50]}
    row = benchmark.measure(Input("logits", arrays, ()), "quantise(8), entropy")
    assert row.ratio is not None
    assert 1 < row.ratio < 2
    assert 0 < row.error < 0.1
    assert min(row.encode_s, row.decode_s, row.encode_peak, row.decode_peak) > 0
