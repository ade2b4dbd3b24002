"""Laws of `entropy`: near the entropy, never above the raw form, the same bits everywhere."""

from __future__ import annotations

import hashlib
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.codecs import Arrays, ArraySpec, Chain, CodecError, Context, Open, Spec
from thinwire.codecs.coding.frequencies import bit_probabilities, eight_bits_table, spread_levels, symbol_table
from thinwire.codecs.coding.grouping import gather, key_sizes, scatter
from thinwire.codecs.coding.rans import TOTAL, decode_symbols, encode_symbols, log2_fixed
from thinwire.codecs.counter import BLOCK, uniform_bits, uniform_blocks
from thinwire.codecs.entropy import Entropy
from thinwire.codecs.entropy_bits import BITS
from thinwire.codecs.golomb import Golomb
from thinwire.codecs.quantise import Quantise
from thinwire.methods.arrays import same_bits

SIZES = [10**5, 10**6, pytest.param(10**7, marks=pytest.mark.long)]


def _entropy(sizes: Any, ones: Any) -> float:
    """Bytes: of the empirical distribution in each context."""
    sizes, ones = np.asarray(sizes, float), np.asarray(ones, float)
    total = 0.0
    for part in (ones, sizes - ones):
        present = part > 0
        total -= float((part[present] * np.log2(part[present] / sizes[present])).sum())
    return total / 8


def _coded(arrays: Arrays, codec: Entropy, reference: Arrays | None = None, seed: int = 7) -> int:
    """The size of the payload, once it has been seen to come back."""
    spec, chain = Spec.of(arrays), Chain((codec,))
    payload = chain.encode(arrays, spec, reference=reference, seed=seed)
    assert same_bits(chain.decode(payload, spec, reference=reference, seed=seed), arrays)
    return len(payload)


def _allowed(entropy: float, size: int) -> float:
    bound = 1.006 * entropy + 32 if size >= 10**6 else 1.01 * entropy + 64
    return min(bound, size / 8 + 8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("p", [0.5, 0.3, 0.1, 0.02, 0.001])
def test_a_mask_costs_its_entropy(size: int, p: float) -> None:
    mask = np.random.default_rng(1).random(size) < p
    for each in (mask, ~mask):
        assert _coded({"w": each}, Entropy()) <= _allowed(_entropy([size], [each.sum()]), size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", [0.3, 5.0])
def test_a_mask_of_known_probabilities_costs_their_entropy(size: int, shape: float) -> None:
    random = np.random.default_rng(2)
    levels = (random.beta(shape, shape, size) * 64).astype(np.uint8)
    mask = random.random(size) < (levels + 0.5) / 64
    entropy = _entropy(np.bincount(levels, minlength=64), np.bincount(levels, mask, 64))
    assert _coded({"w": mask}, Entropy("counts"), {"w": levels}) <= _allowed(entropy, size)


def test_what_both_ends_know_is_not_paid_for() -> None:
    """Given the counts a mask costs less, and less again where u is known; the sum of the masks likewise."""
    random, size, seed = np.random.default_rng(3), 200_000, 11
    theta = random.beta(0.2, 0.4, size)
    before, after = (random.binomial(10, theta).astype(np.uint8) for _ in range(2))
    moved = np.clip(theta + random.normal(0, 0.01, size), 0, 1)
    mask = uniform_bits(seed, "w", size) < np.rint(moved * 2**32)
    reference = {"w": before}
    alone = _coded({"w": mask}, Entropy(), reference, seed)
    counted = _coded({"w": mask}, Entropy("counts"), reference, seed)
    sampled = _coded({"w": mask}, Entropy("counts", sampling=True), reference, seed)
    assert sampled < 0.6 * counted
    assert counted < 0.6 * alone
    assert _coded({"w": after}, Entropy("previous"), reference) < 0.7 * _coded({"w": after}, Entropy(), reference)


def test_knowledge_that_does_not_help_costs_nothing() -> None:
    random = np.random.default_rng(4)
    arrays = {"w": random.random(5000) < 0.3}
    reference = {"w": random.integers(0, 200, 5000).astype(np.uint8)}
    assert _coded(arrays, Entropy("counts", sampling=True), reference) == _coded(arrays, Entropy())


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 1000, 65537])
def test_noise_costs_one_bit_and_a_few_bytes(size: int) -> None:
    arrays = {"w": np.random.default_rng(5).random(size) < 0.5}
    assert _coded(arrays, Entropy()) <= size / 8 + 8


def test_several_arrays_have_their_own_probabilities() -> None:
    random = np.random.default_rng(6)
    arrays = {f"w{i}": random.random(100_000) < p for i, p in enumerate((0.01, 0.2, 0.9))}
    entropy = sum(_entropy([array.size], [array.sum()]) for array in arrays.values())
    assert _coded(arrays, Entropy()) <= 1.01 * entropy + 64


def test_more_arrays_than_there_are_tables() -> None:
    """The last table fits all that are left, whose symbols no other has."""
    random = np.random.default_rng(8)
    arrays = {
        f"w{index}": (index % 250 + random.integers(0, 1 + index % 5, 40 + index)).astype(np.uint8)
        for index in range(600)
    }
    assert _coded(arrays, Entropy()) < sum(array.size for array in arrays.values())


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
@pytest.mark.parametrize("law", ["normal", "laplace"])
def test_symbols_cost_their_entropy(bits: int, law: str) -> None:
    random = np.random.default_rng(7)
    arrays = {
        "w": getattr(random, law)(size=(300, 200)).astype("<f4"),
        "v": random.normal(size=(40, 300)).astype("<f4"),
    }
    context = Context(Spec.of(arrays), seed=1)
    codes = {name: array for name, array in Quantise(bits).encode(arrays, context).items() if array.dtype == np.uint8}
    entropy = 0.0
    for array in codes.values():
        counts = np.bincount(array.reshape(-1))
        counts = counts[counts > 0]
        entropy -= float((counts * np.log2(counts / counts.sum())).sum()) / 8
    assert _coded(codes, Entropy()) <= 1.025 * entropy


@given(data=st.data())
def test_any_bundle_comes_back(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    items, arrays, reference = {}, {}, {}
    for index in range(data.draw(st.integers(0, 4))):
        name = f"a{index}"
        dtype = data.draw(st.sampled_from(["bool", "u8", "u16", "f32"]))
        shape = tuple(data.draw(st.lists(st.integers(0, 12), max_size=3)))
        optional = data.draw(st.booleans())
        items[name] = ArraySpec(dtype, tuple(Open(d + 3) if random.random() < 0.3 else d for d in shape), optional)
        if not optional or random.random() < 0.7:
            most = data.draw(st.sampled_from([1, 2, 9, 256]))
            arrays[name] = random.integers(0, min(most, 2) if dtype == "bool" else most, shape).astype(
                items[name].numpy_dtype
            )
        reference[name] = random.integers(0, 5, shape).astype(np.uint8)
    condition, sampling = data.draw(
        st.sampled_from([("", False), ("counts", False), ("counts", True), ("previous", False)])
    )
    chain, spec = Chain((Entropy(condition, sampling),)), Spec(items)
    payload = chain.encode(arrays, spec, reference=reference, seed=seed)
    assert len(payload) <= chain.bound(spec).max_payload_bytes
    assert same_bits(chain.decode(payload, spec, reference=reference, seed=seed), arrays)


def test_without_the_counts_the_array_has_one_probability() -> None:
    mask = np.random.default_rng(8).random(10_000) < 0.1
    spec, chain = Spec.of({"w": mask}), Chain((Entropy("counts", sampling=True),))
    alone = chain.encode({"w": mask}, spec)
    assert same_bits(chain.decode(alone, spec), {"w": mask})
    counts = {"w": mask.astype(np.uint8) * 3}
    conditional = chain.encode({"w": mask}, spec, reference=counts)
    assert len(conditional) < 64
    for missing in (None, {}, {"w": counts["w"][1:]}, {"w": counts["w"].astype("<f4")}):
        with pytest.raises(CodecError) as raised:
            chain.decode(conditional, spec, reference=missing)
        assert raised.value.reason == "no-reference"


@pytest.mark.parametrize("size", [10**5, 10**6, pytest.param(10**7, marks=pytest.mark.long)])
@pytest.mark.parametrize("codec", [Entropy(), Entropy("counts"), Entropy("counts", sampling=True), Golomb()])
def test_memory_is_eight_bytes_per_element(codec: Entropy | Golomb, size: int) -> None:
    """Of a mask, beside a mebibyte of tables."""
    random = np.random.default_rng(9)
    levels = (random.beta(0.3, 0.6, size) * 11).astype(np.uint8)
    # Gaps are for sparse masks; a dense one is packed.
    scale = 11 if isinstance(codec, Entropy) else 110
    arrays, reference = {"w": random.random(size) < (levels + 0.5) / scale}, {"w": levels}
    context = Context(Spec.of(arrays), reference)
    tracemalloc.start()
    try:
        encoded = codec.encode(arrays, context)
        assert BITS not in encoded
        assert tracemalloc.get_traced_memory()[1] <= 8 * size + (1 << 20)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        codec.decode(encoded, context)
        assert tracemalloc.get_traced_memory()[1] - before <= 8 * size + (1 << 20)
    finally:
        tracemalloc.stop()


@given(st.lists(st.integers(0, 255), max_size=3000), st.integers(1, 4), st.integers(0, 1000))
def test_a_stream_comes_back(values: list[int], rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    symbols = np.array(values, np.uint8)
    tables = []
    for _ in range(rows):
        weights = random.geometric(0.02, 256)
        table = np.maximum(1, weights * (TOTAL - 256) // weights.sum())
        table[0] += TOTAL - table.sum()
        tables.append(table.astype(np.uint32))
    cuts = np.sort(random.integers(0, len(values) + 1, rows - 1))
    runs = list(enumerate(np.diff([0, *cuts, len(values)]).tolist()))
    data = encode_symbols(symbols, runs, np.stack(tables))
    np.testing.assert_array_equal(decode_symbols(memoryview(data), runs, np.stack(tables)), symbols)
    with pytest.raises(CodecError):
        decode_symbols(memoryview(data + b"\0\0"), runs, np.stack(tables))


@given(
    counts=st.lists(st.integers(0, 3000), min_size=1, max_size=4),
    dominance=st.sampled_from([0.3, 0.9, 0.999]),
    log_lanes=st.integers(0, 6),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_few_lanes_go_symbol_by_symbol_and_make_the_same_stream(
    counts: list[int], dominance: float, log_lanes: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    runs = list(enumerate(counts))
    rows = []
    for _ in counts:
        table = np.maximum(1, random.geometric(0.05, 256))
        table[random.integers(256)] += int(dominance * TOTAL)
        table = np.maximum(1, table * (TOTAL - 256) // table.sum())
        table[table.argmax()] += TOTAL - table.sum()
        rows.append(table.astype(np.uint32))
    tables = np.stack(rows)
    symbols = np.concatenate([random.choice(256, size, p=rows[row] / TOTAL) for row, size in runs]).astype(np.uint8)
    streams = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thinwire.codecs.coding.rans._log_lanes", lambda *_: log_lanes)
        for most in (0, 1 << 10):
            patch.setattr("thinwire.codecs.coding.rans_few_lanes.MOST_LANES", most)
            streams.append(encode_symbols(symbols, runs, tables))
            np.testing.assert_array_equal(decode_symbols(memoryview(streams[-1]), runs, tables), symbols)
            for broken in (streams[-1] + b"\0\0", streams[-1][:-2]):
                with pytest.raises(CodecError):
                    decode_symbols(memoryview(broken), runs, tables)
    assert streams[0] == streams[1]


@given(st.integers(0, 200_000), st.integers(0, 100))
@settings(max_examples=20)
def test_gathering_is_a_stable_sort(size: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    keys, group_of = random.integers(0, 300, size).astype(np.uint16), random.integers(0, 4, 300).astype(np.uint8)
    values = random.integers(0, 256, size).astype(np.uint8)
    groups = group_of[keys]
    sizes = np.bincount(groups, minlength=256)
    assert key_sizes(keys, 300).tolist() == np.bincount(keys, minlength=300).tolist()
    ordered = gather(values, keys, sizes, group_of)
    np.testing.assert_array_equal(ordered, values[np.argsort(groups, kind="stable")])
    np.testing.assert_array_equal(scatter(ordered, keys, sizes, group_of), values)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(part, "<i8").tobytes() for part in parts)).hexdigest()[:16]


def test_the_tables_are_golden() -> None:
    """Written once: another value would be another wire format."""
    assert bit_probabilities()[:4] == (778, 1150, 1590, 2096)
    assert _digest(bit_probabilities()) == "ef572a06ef1251fa"
    tables = [eight_bits_table(level) for level in range(62)]
    assert all(int(table.sum()) == TOTAL and table.min() >= 1 for table in tables)
    assert _digest(*tables) == "cd85b9e3472b12f5"
    knots = np.array([1, 200, 255, 90, 3], np.uint8)
    rows = [symbol_table(5, spread_levels(knots, 1 + (len(knots) - 1 << spacing), spacing)) for spacing in range(6)]
    assert all(int(row.sum()) == TOTAL for row in rows)
    assert _digest(*rows) == "dd08f73897b9a0f5"
    assert _digest(log2_fixed(np.arange(1, 100_000, 7))) == "144460ca08aac404"


def test_the_counter_is_golden() -> None:
    assert uniform_bits(0, "w", 6).tolist() == [151984998, 664173092, 3918571744, 1026586037, 86257879, 3166484735]
    assert uniform_bits(2**63, "layer.0/ü", 3).tolist() == [85245217, 126998907, 3809649198]


@pytest.mark.parametrize("count", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 5])
def test_blocks_are_the_same_numbers(count: int) -> None:
    blocks = [np.zeros(0, np.uint32), *uniform_blocks(3, "w", count)]
    np.testing.assert_array_equal(np.concatenate(blocks), uniform_bits(3, "w", count))
    assert max(len(block) for block in blocks) <= BLOCK


def test_beside_constriction() -> None:
    """The reference coder with the exact probability of every element is at most a percent shorter."""
    constriction = pytest.importorskip("constriction", reason="constriction has no build for this machine")
    random, size = np.random.default_rng(10), 300_000
    levels = (random.beta(0.3, 0.3, size) * 64).astype(np.uint8)
    mask = random.random(size) < (levels + 0.5) / 64
    sizes, ones = np.bincount(levels, minlength=64), np.bincount(levels, mask, 64)
    exact = np.clip(ones / np.maximum(sizes, 1), 1e-6, 1 - 1e-6)[levels]
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(mask.astype(np.int32), constriction.stream.model.Bernoulli(perfect=False), exact)
    ours = _coded({"w": mask}, Entropy("counts"), {"w": levels})
    assert ours <= 1.01 * coder.get_compressed().nbytes + 64
