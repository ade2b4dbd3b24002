"""A two-dimensional U-Net (Ronneberger, Fischer, Brox, MICCAI 2015) that can also run while it grows."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

GROUPS: Final = 2


def _double_convolution(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1),
        nn.GroupNorm(GROUPS, after),
        nn.ReLU(),
        nn.Conv2d(after, after, 3, padding=1),
        nn.GroupNorm(GROUPS, after),
        nn.ReLU(),
    )


class Level(nn.Module):
    """One resolution: its encoder, its decoder (not at the bottom), and the way up to the level outside it.

    The transposed convolution from level s + 1 to s belongs to level s + 1.
    """

    def __init__(self, before: int, width: int, *, outermost: bool, bottom: bool) -> None:
        super().__init__()
        self.encoder = _double_convolution(before, width)
        self.decoder = None if bottom else _double_convolution(2 * width, width)
        self.up = None if outermost else nn.ConvTranspose2d(width, before, 2, stride=2)


class UNet(nn.Module):
    """Padded convolutions, group normalisation; `levels` poolings, `base` channels outermost, doubled at each level.

    Inputs (n, in_channels, h, w) with h and w divisible by 2**levels; outputs (n, classes, h, w), scores.
    Deviations from the paper: padding, so that output and input have one size; group normalisation.
    """

    def __init__(self, in_channels: int = 3, classes: int = 1, base: int = 16, levels: int = 3) -> None:
        super().__init__()
        widths = [base * 2**level for level in range(levels + 1)]
        self.levels = nn.ModuleList(
            Level(before, width, outermost=index == 0, bottom=index == levels)
            for index, (before, width) in enumerate(zip([in_channels, *widths], widths, strict=False))
        )
        self.output = nn.Conv2d(base, classes, 1)

    def blocks(self) -> list[nn.Module]:
        """From the outside in: the order of symmetric growth."""
        return list(self.levels)

    def head(self) -> nn.Module:
        return self.output

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.forward_stage(inputs, len(self.levels))

    def forward_stage(self, inputs: torch.Tensor, stage: int) -> torch.Tensor:
        """The outputs of the first `stage` levels: what lies further in gives zeros, and is not computed."""
        levels = self._levels()[:stage]
        scores: torch.Tensor = self.output(self._decode(levels, self._encode(levels, inputs), stage))
        return scores

    def forward_decoder(self, inputs: torch.Tensor, decoders: int) -> torch.Tensor:
        """The features behind the whole encoder and the `decoders` innermost decoders."""
        levels = self._levels()
        return self._decode(levels, self._encode(levels, inputs), decoders + 1)

    def _levels(self) -> list[Level]:
        return [level for level in self.levels if isinstance(level, Level)]

    def _encode(self, levels: list[Level], inputs: torch.Tensor) -> list[torch.Tensor]:
        skips: list[torch.Tensor] = []
        hidden = inputs
        for index, level in enumerate(levels):
            hidden = level.encoder(hidden if index == 0 else nn.functional.max_pool2d(hidden, 2))
            skips.append(hidden)
        return skips

    def _decode(self, levels: list[Level], skips: list[torch.Tensor], count: int) -> torch.Tensor:
        """What leaves the decoder of the last of `count` levels, from the innermost one on."""
        joined, inside = skips[-1], None
        for level, hidden in list(zip(reversed(levels), reversed(skips), strict=True))[:count]:
            if level.decoder is not None:
                above = torch.zeros_like(hidden) if inside is None or inside.up is None else inside.up(joined)
                joined = level.decoder(torch.cat([hidden, above], dim=1))
            inside = level
        return joined
