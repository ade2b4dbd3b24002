"""Certificates as a private authority signs them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_NEW = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]


@dataclass(frozen=True)
class Certificate:
    """Files in PEM. `authority`: what a client is given to trust."""

    authority: Path
    chain: Path
    key: Path


def signed(folder: Path, *names: str) -> Certificate:
    """A certificate for these names, signed by an authority of its own. Skips the test where openssl is not there."""
    made = Certificate(folder / "authority.pem", folder / "fullchain.pem", folder / "privkey.pem")
    authority_key = folder / "authority.key"
    _openssl(["-subj", "/CN=authority", "-out", str(made.authority), "-keyout", str(authority_key)])
    alternatives = ",".join(f"{'IP' if name[0].isdigit() or ':' in name else 'DNS'}:{name}" for name in names)
    _openssl([
        "-CA", str(made.authority), "-CAkey", str(authority_key), "-subj", f"/CN={names[0]}",
        "-addext", f"subjectAltName={alternatives}", "-addext", "basicConstraints=critical,CA:FALSE",
        "-out", str(made.chain), "-keyout", str(made.key),
    ])  # fmt: skip
    return made


def _openssl(words: list[str]) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the test's certificate, is not on this machine")
    subprocess.run([openssl, "req", "-x509", *_NEW, *words], check=True, capture_output=True)
