"""What an advice tries: rates first, then chains and methods at the rates that held."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from thinwire.protocol.settings import RunSettings

SGD: Final[Mapping[str, Any]] = {}
CLIPPED: Final[Mapping[str, Any]] = {"clip-norm": 1.0}
ADAM: Final[Mapping[str, Any]] = {"local-optimizer": "adam"}
RATES: Final[tuple[tuple[float, Mapping[str, Any]], ...]] = (
    (0.02, SGD), (0.003, ADAM), (0.05, CLIPPED), (0.1, CLIPPED), (0.01, ADAM), (0.005, SGD), (0.1, SGD), (0.001, ADAM),
)  # fmt: skip
"""Of SGD with its usual momentum, of the same with clipped gradients, and of Adam; the likelier ones first."""
MASK_RATES: Final = (0.1, 0.03)
SCALAR_RATES: Final = (0.03, 0.003, 0.3)


def _both(up: str, down: str) -> Mapping[str, Any]:
    """Of a run whose model is evaluated as clients get it; sent whole once more, it would be most of the bytes."""
    return {"uplink": up, "downlink": down, "chains": {"evaluate": {"down": down}}}


FEWEST: Final = "spread 8 up, 3 down"
CHAINS: Final[Mapping[str, Mapping[str, Any]]] = {
    "its own chains": {},
    "8 bits": _both("quantise(8), entropy", "delta, quantise(8), entropy"),
    "4 bits": _both("quantise(4), entropy", "delta, quantise(4), entropy"),
    FEWEST: _both(
        "quantise(8, per=bundle, spread=8), entropy(adaptive, sampling=True)",
        "delta, quantise(8, per=bundle, rounding=deadzone, spread=3), entropy(adaptive)",
    ),
}
FACTORS: Final = ("quantise(8), entropy", "quantise(5), entropy")


@dataclass(frozen=True, slots=True)
class Candidate:
    """Settings that may be advised. `words`: what is particular to them; `settings`: of the method; `run`: of the run,
    its chains.
    """

    method: str
    words: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.method}, {self.words}"

    def made(self, rounds: int, clients: int, seed: int) -> RunSettings:
        """The run of so many rounds that counts all of these clients."""
        given = {"name": "advised", "method": self.method, "rounds": rounds, "cohort": clients, "seed": seed}
        return RunSettings.model_validate({**given, **self.run, "settings": dict(self.settings)})


def rate_candidates() -> Iterator[Candidate]:
    """Of plain federated averaging: what its rate may be on these data."""
    for lr, steps in RATES:
        yield Candidate("fedavg", _rated({"lr": lr, **steps}), {"lr": lr, **steps})


def coarse_candidates(rates: list[Mapping[str, Any]]) -> Iterator[Candidate]:
    """Chains and methods, the likelier ones first. `rates`: settings of the rates that held, the best one first."""
    best = rates[0]
    for words, chains in CHAINS.items():
        yield _averaging("fedavg", best, words, {}, chains)
    yield Candidate("sparse_masks", f"lr {MASK_RATES[0]:g}", {"lr": MASK_RATES[0]})
    yield _averaging("fedavg", best, f"{FEWEST}, 4 epochs", {"epochs": 4}, CHAINS[FEWEST])
    for factors in FACTORS:
        yield _averaging("feddlr", best, f"factors {factors.partition(',')[0]}", {"factors": factors}, {})
    for lr in SCALAR_RATES:
        yield Candidate("seed_scalars", f"lr {lr:g}", {"lr": lr, "lr-schedule": "cosine"})
    for other in rates[1:2]:
        yield _averaging("fedavg", other, "4 bits", {}, CHAINS["4 bits"])
        yield _averaging("fedavg", other, f"{FEWEST}, 4 epochs", {"epochs": 4}, CHAINS[FEWEST])
    yield _averaging("progfed", best, "4 bits", {}, CHAINS["4 bits"])
    yield _averaging("feddkd", best, "4 bits", {}, CHAINS["4 bits"])
    yield Candidate("sparse_masks", f"lr {MASK_RATES[1]:g}", {"lr": MASK_RATES[1]})


def _averaging(
    method: str, rate: Mapping[str, Any], words: str, settings: Mapping[str, Any], run: Mapping[str, Any]
) -> Candidate:
    """With a rate that falls, which costs nothing."""
    return Candidate(method, f"{words}, {_rated(rate)}", {**rate, "lr-schedule": "cosine", **settings}, run)


def _rated(rate: Mapping[str, Any]) -> str:
    """`adam, lr 0.003`."""
    steps = "adam, " if "local-optimizer" in rate else "clipped, " if "clip-norm" in rate else ""
    return f"{steps}lr {rate['lr']:g}"
