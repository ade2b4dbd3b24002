"""What frozen layers make of the questions: computed once, and kept in a folder that git ignores.

INTENTS and BANKING77 are those of docs/examples/banking77_lora.py.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import torch

from docs.examples.banking77_lora import INTENTS, LAYERS, questions, trained
from thinwire.machine.files import write_atomic

FOLDER: Final = Path(__file__).parents[1] / "results" / ".cache" / "banking77"
_AT_ONCE: Final = 64


@cache
def numbers(which: str) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The words of each question of `train` or `test` by their numbers, and all intents."""
    ids, mask, labels = questions(which)
    return [row[kept] for row, kept in zip(ids, mask, strict=True)], labels


@cache
def sentences(which: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A vector of each question, (n, 384), and all intents."""
    return torch.stack(_through(which, LAYERS)), numbers(which)[1]


@cache
def words(which: str, layers: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Each question's words behind so many layers, (length, 384), with eleven bits, and all intents."""
    return _through(which, layers), numbers(which)[1]


def _through(which: str, layers: int) -> list[torch.Tensor]:
    path = FOLDER / f"{which}-{INTENTS}-{layers}.npz"
    if not path.exists():
        rows = _computed(which, layers)
        whole = layers == LAYERS
        flat = (torch.stack(rows) if whole else torch.cat(rows)).numpy()
        written = io.BytesIO()
        np.savez(written, flat=flat if whole else flat.astype(np.float16), ends=np.cumsum([len(row) for row in rows]))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, written.getvalue(), fsync=False)
    with np.load(path) as held:
        found, ends = torch.from_numpy(held["flat"]).float(), held["ends"].tolist()
    if layers == LAYERS:
        return list(found)
    return [found[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


@torch.inference_mode()
def _computed(which: str, layers: int) -> list[torch.Tensor]:
    """By lengths, so that few words are computed that are none."""
    net = trained().eval()
    ids, mask, _ = questions(which)
    lengths = mask.sum(1)
    found = [torch.empty(0)] * len(ids)
    order = lengths.argsort(stable=True)
    for start in range(0, len(order), _AT_ONCE):
        chosen = order[start : start + _AT_ONCE]
        longest = int(lengths[chosen].max())
        kept, there = net.looked_up(ids[chosen, :longest]), mask[chosen, :longest]
        if layers == LAYERS:
            made = list(net.sentences(kept, there))
        else:
            for layer in list(net.encoder["layer"].children())[:layers]:
                kept = layer(kept, there)
            made = [row[: lengths[number]] for number, row in zip(chosen, kept, strict=True)]
        for number, row in zip(chosen, made, strict=True):
            found[number] = row.clone()
    return found
