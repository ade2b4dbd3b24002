"""The methods: one folder each. A method is two small pure halves and a commutative sum between them: a server half in
numpy (`server_half.py`), a client half in torch (`client_half.py`), a reducer (`reducers.py`).

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

The folder listing is the registry (`registry.py`). Another source root may add folders to this package:
`extend_path` finds every `thinwire/methods` on the import path.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
