"""Which chains are in force in a run: the method's defaults, with what the run's settings put over them."""

from __future__ import annotations

from typing import Final

from thinwire.codecs import Chain, CodecError
from thinwire.protocol.settings import RunSettings

from .interface import EVALUATE, Chains, Method, MethodSettings

EVALUATION_CHAINS: Final = Chains.parse("byte_shuffle, zstd")


def resolve_chains(run: RunSettings, method: Method, settings: MethodSettings, kind: str) -> Chains:
    """The method's default chains, or raw ones, with what the run says put over them. Raises: `CodecError`."""
    plain = run.chains == "plain"
    defaults = {} if plain else method.chains(settings)
    chains = Chains.plain() if plain else defaults.get(kind, EVALUATION_CHAINS if kind == EVALUATE else Chains())
    written = run.chains if isinstance(run.chains, dict) else {}
    unknown = [name for name in written if name not in {"*", EVALUATE, *method.chains(settings)}]
    if unknown:
        raise CodecError("bad-chain", f"{method.id} has no exchanges of kind {unknown[0]!r}")
    for over in [written[name] for name in ("*", kind) if name in written and not (kind == EVALUATE and name == "*")]:
        chains = _put_over(chains, over.down, over.up, over.private)
    if kind != EVALUATE:
        chains = _put_over(chains, run.downlink, run.uplink, None)
    if chains.private.needs_reference:
        raise CodecError("bad-chain", "the chain of private parts cannot have a reference")
    return chains


def _put_over(chains: Chains, down: str | None, up: str | None, private: str | None) -> Chains:
    return Chains(
        chains.down if down is None else Chain.parse(down),
        chains.up if up is None else Chain.parse(up),
        chains.full,
        chains.private if private is None else Chain.parse(private),
    )
