"""What the figures of a run say about its learning, for the operator: a model that has died looks like any other."""

from __future__ import annotations

from collections.abc import Sequence

from thinwire.methods.progress import NO_MOVE, UNCHECKED, UNMOVED, Measured, diverges, stands_still
from thinwire.methods.rounds import rounds_of
from thinwire.methods.values import EVALUATE
from thinwire.protocol.messages import ExchangeMetrics


def learning_warnings(exchanges: Sequence[ExchangeMetrics]) -> list[str]:
    """A sentence for each thing that is wrong with what the clients have measured so far."""
    found = [Measured(one.round, one.loss, one.accuracy) for one in rounds_of(exchanges) if one.loss is not None]
    said = [stands_still(found)] if found and found[0].round == 0 else []
    trained = [one for one in exchanges if one.kind != EVALUATE]
    if trained and UNMOVED in trained[-1].metrics:
        said.append(f"in round {trained[-1].round} {NO_MOVE}")
    if any(UNCHECKED in one.metrics for one in exchanges):
        said.append(
            "the clients' models have parts that do not travel, and nothing compares them: the model file that the run "
            "began with has no marks of them, or it was started with frozen=any. thinwire-client model init makes a "
            "file that has them"
        )
    if trained and (words := diverges(trained[-1].metrics)):
        said.append(f"in round {trained[-1].round}, at clients: {words}")
    return [sentence for sentence in said if sentence]
