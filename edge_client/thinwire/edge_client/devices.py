"""Where a client trains: one device, or several for a loop of training of the task's own."""

from __future__ import annotations

import torch

from .settings import UsageError


def devices_of(text: str) -> tuple[torch.device, ...]:
    """`cpu`, `cuda`, `cuda:1`, or several: `cuda:0,1`, `cpu,cpu`; a number alone is of the kind before it.

    Raises: `UsageError`, with what is written wrongly.
    """
    found: list[torch.device] = []
    for word in text.split(","):
        name = f"{found[-1].type}:{word.strip()}" if found and word.strip().isdigit() else word.strip()
        try:
            found.append(torch.device(name))
        except RuntimeError:
            raise UsageError(
                f"--device {text}: {word!r} names no device; write cpu, cuda, cuda:1 or mps, or several: cuda:0,1"
            ) from None
    return tuple(found)


def require_devices(text: str) -> None:
    """Raises `UsageError` where one of them is not there."""
    for device in devices_of(text):
        if device.type == "cuda" and not torch.cuda.is_available():
            raise UsageError(
                f"--device {text}: there is no CUDA here: this torch, {torch.__version__}, was built without it, or "
                "sees no GPU. Take --device cpu, or a build of torch with CUDA"
            )
        try:
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"--device {text}: {str(error).splitlines()[0]}") from None


def require_own_loop(text: str, *, has_fit: bool) -> None:
    """Raises `UsageError` where several devices are named and nothing would use the second one."""
    if len(devices_of(text)) > 1 and not has_fit:
        raise UsageError(
            f"--device {text}: our loop trains on one device, and the task has no fit of its own that would use "
            "several, as docs/examples/several_processes.py has; name one device"
        )
