"""A run's budget of bytes: whether another round fits."""

from __future__ import annotations

from .ledger import Ledger
from .runs import Run


def beyond_budget(run: Run, ledger: Ledger) -> str | None:
    """Why another round is too dear, taking the last one for its measure; None: it is not, or there is no budget."""
    most = run.definition.run.max_bytes
    trained = [one for one in run.closed if one.kind != "evaluate"]
    if most is None or not trained:
        return None
    last = {one.exchange for one in trained if one.round == trained[-1].round}
    # The requests with its answers are still open: the next task rides on their replies.
    late = ledger.uncharged(run.id, last)
    tallies = [ledger.exchange(run.id, index) for index in sorted(last)]
    before = ledger.before(run.id, run.index)
    spent, another = (sum(one.uplink + one.downlink for one in some) + late for some in ([before], tallies))
    # The evaluation after it downloads the model once more.
    final = tallies[-1].downlink if run.definition.run.evaluate else 0
    if spent + another + final <= most:
        return None
    return f"max-bytes: {spent} of {most} bytes were spent when another round would have taken about {another}"
