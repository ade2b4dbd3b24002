"""How each command of `thinwire-client` is typed: its help ends with these lines, and a test tries each against the
command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

EXAMPLES: Final[Mapping[str, Sequence[str]]] = {
    "thinwire-client join": (
        "thinwire-client join https://coordinator.example --invite-file invite.txt --task digits",
        'thinwire-client join https://coordinator.example --task ward.py --says "the one by the window" --forever',
        "thinwire-client join https://coordinator.example --task ward.py --metered --quiet-hours 22:00-06:30",
    ),
    "thinwire-client simulate": ("thinwire-client simulate --task digits --clients 8 < runs.jsonl",),
    "thinwire-client rotate": ("thinwire-client rotate --name ward-3",),
    "thinwire-client status": ("thinwire-client status", "thinwire-client status --name ward-3 --format json"),
    "thinwire-client leave": ("thinwire-client leave --name ward-3",),
    "thinwire-client doctor": ("thinwire-client doctor", "thinwire-client doctor https://coordinator.example"),
    "thinwire-client fleet": (
        "thinwire-client fleet http://127.0.0.1:8080 --clients 100 --invite-file fleet.invite --task digits",
    ),
    "thinwire-client model init": ("thinwire-client model init --task digits --out first.safetensors",),
    "thinwire-client model export": ("thinwire-client model export final.safetensors --task task.py --out final.pt",),
    "thinwire-client model merge": ("thinwire-client model merge final.safetensors --task task.py --out whole.pt",),
    "thinwire-client model compact": (
        "thinwire-client model compact final.safetensors --task task.py --out thin.safetensors --energy 0.99",
    ),
    "thinwire-client model expand": ("thinwire-client model expand final.safetensors --out whole.safetensors",),
    "thinwire-client model spec": ("thinwire-client model spec --task digits",),
    "thinwire-client task check": ("thinwire-client task check task.py --config run.toml",),
}
