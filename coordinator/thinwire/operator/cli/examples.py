"""How each command of `thinwire` is typed: its help ends with these lines; a test tries each against the command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

EXAMPLES: Final[Mapping[str, Sequence[str]]] = {
    "thinwire new": ("thinwire new ward --template table", "thinwire new sentences --template lora"),
    "thinwire demo": ("thinwire demo", "thinwire demo --rounds 20 --clients 4 --link nb-iot"),
    "thinwire compare": (
        "thinwire compare --rounds 10",
        "thinwire compare --methods fedavg,sparse_masks --target 0.9 --link 4g",
        "thinwire compare --task task.py --score rmse",
    ),
    "thinwire simulate": ("thinwire simulate --task digits --clients 8 --set rounds=5",),
    "thinwire advise": ("thinwire advise --target 0.9", "thinwire advise --task task.py --clients 20"),
    "thinwire plan": ("thinwire plan --model first.safetensors --config run.toml",),
    "thinwire problems": ("thinwire problems", "thinwire problems --format json"),
    "thinwire bill": ("thinwire bill", "thinwire bill --run night --format csv"),
    "thinwire doctor": ("thinwire doctor", "thinwire doctor --url https://coordinator.example --ca-file own-ca.pem"),
    "thinwire bundle": ("thinwire bundle --out report.tar.gz",),
    "thinwire login": ("thinwire login https://coordinator.example --invite-file colleague.invite",),
    "thinwire logout": ("thinwire logout", "thinwire logout https://coordinator.example"),
    "thinwire backup": ("thinwire backup backups/monday",),
    "thinwire restore": ("thinwire restore backups/monday --data-dir thinwire-data",),
    "thinwire migrate": (
        "thinwire migrate --data-dir thinwire-data --database postgresql://db.example/thinwire --objects s3://bucket",
    ),
    "thinwire rotate-token": ("thinwire rotate-token --out operator.token",),
    "thinwire methods": ("thinwire methods", "thinwire methods --format json"),
    "thinwire codecs": ("thinwire codecs",),
    "thinwire codecs try": ('thinwire codecs try first.safetensors --chain "quantise(4), entropy"',),
    "thinwire run start": (
        "thinwire run start --model first.safetensors --set rounds=20 --set cohort=5 --watch",
        "thinwire run start --model first.safetensors --config run.toml",
    ),
    "thinwire run list": ("thinwire run list", "thinwire run list --format json"),
    "thinwire run show": ("thinwire run show night", "thinwire run show night --format csv"),
    "thinwire run watch": ("thinwire run watch night",),
    "thinwire run log": (
        "thinwire run log night",
        "thinwire run log night --since 2026-11-30",
        "thinwire run log night --all",
    ),
    "thinwire run pause": ("thinwire run pause night", "thinwire run pause night --open drop"),
    "thinwire run resume": ("thinwire run resume night",),
    "thinwire run stop": ("thinwire run stop night",),
    "thinwire run extend": (
        "thinwire run extend night --rounds 40",
        "thinwire run extend night --quorum 3 --deadline-s 600",
    ),
    "thinwire run pull": ("thinwire run pull night --out final.safetensors",),
    "thinwire run delete": ("thinwire run delete night",),
    "thinwire client invite": (
        "thinwire client invite --out invite.txt",
        "thinwire client invite --uses 50 --group ward --expires-in 86400",
        "thinwire client invite --role reader --out scrape.invite",
    ),
    "thinwire client invites": ("thinwire client invites",),
    "thinwire client void": ("thinwire client void 0123abcd",),
    "thinwire client list": ("thinwire client list", "thinwire client list --format json"),
    "thinwire client show": ("thinwire client show ward-3",),
    "thinwire client log": ("thinwire client log ward-3", "thinwire client log ward-3 --format json"),
    "thinwire client pending": ("thinwire client pending",),
    "thinwire client accept": ("thinwire client accept 7K3M-0QXZ", "thinwire client accept 7k3m0qxz --group ward"),
    "thinwire client refuse": ("thinwire client refuse 7K3M-0QXZ",),
    "thinwire client rename": ("thinwire client rename client-5e1f by-the-window", "thinwire client rename ward-3"),
    "thinwire client delete": ("thinwire client delete ward-3",),
    "thinwire client revoke": ("thinwire client revoke ward-3", "thinwire client revoke ward-3 --with-invite"),
    "thinwire webhook add": ("thinwire webhook add https://desk.example/hear --kind run --out secret.txt",),
    "thinwire webhook list": ("thinwire webhook list",),
    "thinwire webhook remove": ("thinwire webhook remove a1b2c3",),
    "thinwire webhook test": ("thinwire webhook test a1b2c3",),
}
