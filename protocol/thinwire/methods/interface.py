"""What a method is: two small pure halves and a commutative sum between them.

The unit is the exchange: one task out to a cohort, one set of answers in. A round has one or more exchanges, its
steps. A complete toy, federated averaging of weights without options:

    class Server(ServerHalf[Settings]):
        def __init__(self, settings: Settings, facts: RunFacts) -> None:
            super().__init__(settings, facts)
            self.reducer = ExactSum(facts.bounds)

        def start(self, model: Arrays, seed: int) -> State:
            return State(1, 0, dict(model))

        def task(self, state: State) -> Task | None:
            if state.round > self.facts.rounds:
                return None
            return Task(state.round, 0, "train", {"model": state.arrays}, Spec.of(state.arrays))

        def advance(self, state: State, total: Total) -> State:
            return State(state.round + 1, 0, {name: total.mean(name).astype("f4") for name in state.arrays})

        def model(self, state: State) -> Arrays:
            return state.arrays

    class Client(ClientHalf[Settings]):
        def perform(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
            learner.load(task.arrays)
            metrics = learner.evaluate()
            ...  # train learner.model on learner.train
            return Outcome(Answer(learner.arrays(), len(learner.train), metrics), memory, memory)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from thinwire.codecs import Arrays, Chain, Spec
from thinwire.protocol.settings import RunSettings, Settings

if TYPE_CHECKING:
    import torch

    from .learning import Samples

Scalar = bool | int | float | str
CohortRule = Literal["new", "same"]
EVALUATE = "evaluate"
"""The kind of the exchange after the last round: a task without a reply, answered with metrics only."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything a server half knows between two exchanges; a checkpoint is `pack_state(state)`.

    `round` counts from 1, `step` from 0 within the round; `arrays` may have any names and dtypes of `DTYPES`.
    """

    round: int
    step: int
    arrays: Arrays


@dataclass(frozen=True, slots=True)
class Task:
    """One exchange: what goes out to every client of the cohort, and what must come back.

    `parts`: part name -> named arrays. A part is sent as one payload, and only to clients that do not hold it;
    array names are unique over all parts. On the server these are the exact arrays, on a client the decoded ones.
    `reply`: the arrays an answer must hold. `cohort`: "new" is sampled for this exchange, "same" is exactly the
    clients whose answers counted in the previous exchange of this round. `options`: what changes from task to
    task (a learning rate, say); what is constant belongs in the settings.
    """

    round: int
    step: int
    kind: str
    parts: Mapping[str, Arrays]
    reply: Spec
    cohort: CohortRule = "new"
    options: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def arrays(self) -> dict[str, Any]:
        """The arrays of all parts together."""
        return {name: array for part in self.parts.values() for name, array in part.items()}


@dataclass(frozen=True, slots=True)
class Contribution:
    """A decoded, checked answer: what the reducer sees.

    `slot`: the client's index in the cohort; `client`: its stable name; `examples`: its weight n_k >= 1, capped by
    the run's `max-examples`; `arrays` fit `Task.reply`.
    """

    slot: int
    client: str
    examples: int
    arrays: Arrays
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client sends back. `metrics`: loss, accuracy, examples, seconds, and up to 8 scalars of the user's own."""

    arrays: Arrays
    examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer, and what the client will remember once it knows the verdict. Memories are named arrays."""

    answer: Answer
    memory_if_accepted: Arrays
    memory_if_refused: Arrays


TotalT = TypeVar("TotalT")


class Reducer(Protocol[TotalT]):
    """A commutative monoid over contributions: any order, tree, thread or process gives the same bits.

    `add` and `merge` may change and return their first argument, which the caller gives up.
    """

    @property
    def keeps(self) -> bool:
        """Whether a total holds on to the arrays it is given: whoever adds many should give arrays that lie on disk."""

    def check(self, contribution: Contribution) -> Contribution:
        """The contribution as it may be added, the same as a rule; it may have been scaled down.

        Raises: `CodecError` if it must not be added (not finite, out of bounds).
        """

    def zero(self) -> TotalT: ...

    def add(self, total: TotalT, contribution: Contribution) -> TotalT: ...

    def merge(self, first: TotalT, second: TotalT) -> TotalT: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """What no sum of this run may exceed; `ExactSum` derives its fixed point from them.

    `clients`: the largest number of counted answers in one exchange; `examples`: the largest weight of one
    answer; `value`: the largest |x| of an array element.
    """

    clients: int
    examples: int = 1 << 16
    value: float = 1024.0


@dataclass(frozen=True, slots=True)
class Robust:
    """How a run guards its mean. `statistic`: instead of the mean, None for the mean; `trim`: of the trimmed mean, the
    share of answers left out at each end; `max_norm`: of one contribution, beyond which it is clipped or refused.
    """

    statistic: Literal["median", "trimmed-mean"] | None = None
    trim: float = 0.1
    max_norm: float | None = None
    refuse: bool = False

    @staticmethod
    def of(run: RunSettings) -> Robust:
        """What the run's settings say."""
        statistic = None if run.reducer == "mean" else run.reducer
        trim = 0.1 if run.trim is None else run.trim
        return Robust(statistic, trim, run.max_norm, run.over_norm == "refuse")


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What every server half may know of its run, constant from the first exchange to the last."""

    rounds: int
    seed: int
    bounds: Bounds
    robust: Robust = field(default_factory=Robust)


class TaskRefusedError(Exception):
    """This client will not do such a task. `reason`: of the closed table."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class MethodSettings(Settings):
    """Base of every method's settings: kebab-case outside, unknown keys are errors, immutable."""


SettingsT = TypeVar("SettingsT", bound=MethodSettings)


class ServerHalf(ABC, Generic[SettingsT]):
    """numpy only; pure: no clock, no input or output, no state outside `State`."""

    reducer: Reducer[Any]

    def __init__(self, settings: SettingsT, facts: RunFacts) -> None:
        self.settings = settings
        self.facts = facts

    @abstractmethod
    def start(self, model: Arrays, seed: int) -> State:
        """The state before the first exchange. `model`: the user's initial arrays.

        Raises: `CodecError` (`bad-spec`) where this method cannot work with such a model.
        """

    @abstractmethod
    def task(self, state: State) -> Task | None:
        """The next exchange; None when the run is complete."""

    def private(self, state: State, task: Task, client: str) -> Arrays | None:
        """A part of the task for this client alone, added on its side as part "private"; None where there is none."""
        return None

    @abstractmethod
    def advance(self, state: State, total: Any) -> State:
        """The state after `task(state)`, whose contributions sum to `total` (never of zero contributions)."""

    def give_up(self, state: State) -> State | None:
        """The state after an exchange whose quorum was missed; None: offer the exchange again."""
        return None

    @abstractmethod
    def model(self, state: State) -> Arrays | None:
        """The global model as named arrays; None for a method that has none."""

    def warnings(self) -> list[str]:
        """What a person should know before a run with these settings and facts begins, one sentence each."""
        return []

    def evaluation(self, state: State) -> Task | None:
        """The exchange that measures the final state; None for nothing to measure."""
        model = self.model(state)
        parts = {} if model is None else {"model": model}
        return Task(state.round, state.step, EVALUATE, parts, Spec())


class Learner(Protocol):
    """What the edge gives a client half: the user's model, loss and data on one device.

    `name`: the client's stable name. `seed`: of this task for this client, the same wherever it runs.
    `model`: its parameters are whatever the last task left; `load` first. `train` is never empty, the others may be
    None: `evaluation` (for built-in tasks this client's even share of the common test set, so that the weighted mean
    over all clients is the global test accuracy), `personal` (test examples distributed like the client's own), `proxy`
    (a public unlabelled set, the same for all clients). `encode`: the user's encoder of inputs, (n, ...) -> (n, d), for
    methods that compare examples of different clients; the same on all of them; None where there is none.
    `uplink`: what answers of this task are written with, the plan's chain; a client half may put a narrower one in its
    place, whose payloads the plan's chain decodes. `max_answer_bytes`: what this client is ready to send at a time.
    """

    name: str
    seed: int
    device: torch.device
    model: torch.nn.Module
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    encode: Callable[[torch.Tensor], torch.Tensor] | None
    uplink: Chain
    max_answer_bytes: int | None
    train: Samples
    evaluation: Samples | None
    personal: Samples | None
    proxy: Samples | None

    @property
    def spec(self) -> Spec:
        """Of the model's arrays: parameters with requires_grad, then floating buffers."""

    def load(self, arrays: Arrays) -> None:
        """Sets those arrays of the model; others keep their values."""

    def arrays(self) -> dict[str, Any]:
        """The model's arrays, as copies, in the order of `spec`."""

    def first_arrays(self) -> dict[str, Any]:
        """The arrays this client's model began with, whatever tasks have made of it: for models that never travel."""

    def evaluate(self, model: torch.nn.Module | None = None, samples: Samples | None = None) -> dict[str, float]:
        """`loss`, `accuracy` (where outputs are class scores) and `examples` on `samples`; {} without samples.

        Defaults: the learner's own model and its evaluation samples. Leaves the model in the mode it was in.
        """

    def encoded(self, answer: Arrays) -> bytes:
        """The payload of this answer: what `uplink` makes of it."""

    def decoded(self, answer: Arrays) -> Arrays:
        """What the coordinator will decode from this answer: the uplink chain there and back."""

    def allows(self, permission: str) -> bool:
        """Whether the person who runs this client consented, for example to `sample-knowledge`."""


class ClientHalf(ABC, Generic[SettingsT]):
    """torch; deterministic: the same task, memory, learner data and seed give the same outcome."""

    def __init__(self, settings: SettingsT) -> None:
        self.settings = settings

    @abstractmethod
    def perform(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        """The answer to one task, and both memories. `memory`: what the last verdict promoted, {} at first.

        A task of kind `evaluate` is answered with metrics only: see `evaluate`. Raises: `TaskRefusedError` where this
        client lacks what the task needs: a consent, say.
        """

    def evaluate(self, task: Task, memory: Arrays, learner: Learner) -> Outcome:
        """The outcome of an `evaluate` task for a method whose global model is the user's model."""
        learner.load(task.arrays)
        return Outcome(Answer({}, len(learner.train), learner.evaluate()), memory, memory)


@dataclass(frozen=True, slots=True)
class Chains:
    """How the payloads of one kind of exchange are written.

    `down`: broadcast parts; where it needs a reference, clients without the base get the part in `full`, which needs
    none and is lossless. `up`: answers. `private`: parts for one client.
    """

    down: Chain = field(default_factory=Chain)
    up: Chain = field(default_factory=Chain)
    full: Chain = field(default_factory=Chain)
    private: Chain = field(default_factory=Chain)

    @staticmethod
    def parse(down: str = "", up: str = "", full: str = "byte_shuffle, zstd", private: str = "") -> Chains:
        return Chains(Chain.parse(down), Chain.parse(up), Chain.parse(full), Chain.parse(private))

    @staticmethod
    def plain() -> Chains:
        """Raw arrays in all directions: the baseline of every comparison."""
        return Chains()

    @property
    def whole(self) -> Chain:
        """The chain of a broadcast part for a client that holds no base."""
        return self.full if self.down.needs_reference else self.down


@dataclass(frozen=True, slots=True)
class Method:
    """A method's entry: `METHOD` in the `__init__.py` of its folder.

    `chains`: the default chains of every kind of exchange but `evaluate`, from the settings. The halves are
    `server.Server` and `client.Client` in the same folder, loaded by those who need them. `shared_model`: whether
    every client must have the model of the run; False where models may differ from client to client. `averages`:
    whether, with these settings, answers are updates of which any robust mean will do (`robust.reducer_of`).
    """

    id: str
    title: str
    source: str
    settings: type[MethodSettings]
    chains: Callable[[Any], Mapping[str, Chains]]
    shared_model: bool = True
    averages: Callable[[Any], bool] = lambda _: False

    def check(self, settings: Any, robust: Robust) -> None:
        """Raises `ValueError` where the run wants a robust reducer and this method cannot have one."""
        if robust != Robust() and not self.averages(settings):
            raise ValueError(
                f"{self.id} takes no reducer but the mean, and no max-norm: with these settings its answers are not "
                "updates that may be ordered or scaled"
            )
