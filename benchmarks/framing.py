"""What a small exchange and a waiting client cost beside their payload: `python -m benchmarks.framing`.

Every figure is a difference of a counting proxy's totals between real processes.

- Exchange: two runs that differ only in their number of rounds; their difference, per client and additional exchange,
  is what one exchange costs on kept-alive connections. Of it, the payload is what the ledger says.
- Idle: one whole poll without a task, request and response, divided by its `wait_s`. A poll is as long as it says only
  with `--patient`; otherwise it waits two seconds, with leading zeros so that its bytes are those of the long one.
"""

from __future__ import annotations

import argparse
import json
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from benchmarks.counting_proxy import CountingProxy
from thinwire.edge_client.link.sockets import CountingBackend
from thinwire.edge_client.link.transfer import Transfer
from thinwire.operator.console import console
from thinwire.operator.fleet import client_name
from thinwire.operator.lab import Lab
from thinwire.operator.processes import finish
from thinwire.operator.sheet import Sheet
from thinwire.operator.tables import total
from thinwire.protocol.messages import (
    Enrolled,
    Enrolment,
    Ledger,
    Registration,
    TaskMessage,
)
from thinwire.protocol.settings import RunSettings

CLIENTS = 2
WAITS_S = (55, 300, 600)
SHORT_WAIT_S = 2
END_S = 120.0
TASK = """
import torch
from thinwire.edge_client.data import Data


def model():
    return torch.nn.Linear(8, 10)


def data(client):
    generator = torch.Generator().manual_seed(client.index)
    inputs = torch.randn(32, 8, generator=generator)
    targets = inputs[:, :1].gt(0).long().squeeze(1)
    return Data(train=(inputs, targets), evaluation=(inputs, targets))
"""


@dataclass(frozen=True, slots=True)
class Exchange:
    """Bytes of one exchange of one client."""

    transport: str
    payload_up: float
    payload_down: float
    framing_up: float
    framing_down: float

    @property
    def framing(self) -> float:
        return self.framing_up + self.framing_down


@dataclass(frozen=True, slots=True)
class Idle:
    """Bytes of one poll without a task, and per second of its wait."""

    transport: str
    wait_s: int
    waited_s: int
    up: int
    down: int

    @property
    def per_second(self) -> float:
        return (self.up + self.down) / self.wait_s


@contextmanager
def served(*, tls: bool) -> Iterator[tuple[Lab, CountingProxy, Path | None]]:
    """A fresh coordinator process on this machine, a proxy in front of it, and the certificate, where it has one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificate = _certificate(folder) if tls else None
        options = [] if certificate is None else ["--certificate", str(certificate), "--key", str(folder / "key.pem")]
        with Lab(folder, options, ca_file=certificate) as lab:
            lab.serve()
            with CountingProxy(lab.url) as proxy:
                yield lab, proxy, certificate


def _certificate(folder: Path) -> Path:
    certificate = folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / "key.pem"), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate


def _run(rounds: int, *, tls: bool) -> tuple[int, int, int, int]:
    """Wire bytes up and down by the proxy, payload bytes up and down by the ledger, of a whole run."""
    with served(tls=tls) as (lab, proxy, _):
        task = lab.folder / "task.py"
        task.write_text(TASK)
        learns = ("--task", str(task))
        settings = RunSettings(name="framing", rounds=rounds, cohort=CLIENTS)
        run = lab.start_run(lab.first_model(learns), settings)
        invite = lab.write_invite("all", CLIENTS)
        clients = [
            lab.join(client_name(index), invite, [*learns, "--share", f"{index}/{CLIENTS}"], url=proxy.url)
            for index in range(CLIENTS)
        ]
        for client in clients:
            finish(client, END_S)
        ledger = lab.operator.ask("GET", f"/v1/runs/{run.id}/ledger", Ledger)
        sums = total(row for row in ledger.rows if row.client)
        return (*proxy.total, sums.uplink_payload, sums.downlink_payload)


def exchange(more_rounds: int, *, tls: bool) -> Exchange:
    """What one exchange costs one client once everything is under way."""
    short, long = _run(2, tls=tls), _run(2 + more_rounds, tls=tls)
    up, down, payload_up, payload_down = ((b - a) / (more_rounds * CLIENTS) for a, b in zip(short, long, strict=True))
    return Exchange("TLS" if tls else "plain", payload_up, payload_down, up - payload_up, down - payload_down)


def idle(waits_s: tuple[int, ...] = WAITS_S, *, tls: bool, patient: bool = False) -> list[Idle]:
    """What a poll without a task costs, on a connection that is kept alive."""
    found = []
    with served(tls=tls) as (lab, proxy, certificate):
        context = None if certificate is None else ssl.create_default_context(cafile=certificate)
        transfer = Transfer(proxy.url, CountingBackend(), rng=Random(0), say=lambda _: None, tls=context)  # noqa: S311
        with closing(transfer):
            _, enrolled, _ = transfer.call("POST", "/v1/clients", Enrolled, Enrolment(invite=lab.invite()))
            assert enrolled is not None
            transfer.use_token(enrolled.token)
            # As a client says it that has served a run already.
            ready = Registration(spec=bytes(8), holds={"abcdefgh": 20})
            for wait_s in waits_s:
                waited_s = wait_s if patient else SHORT_WAIT_S
                before = proxy.total
                path = f"/v1/r?wait_s={waited_s:0{len(str(wait_s))}}"
                status, _, _ = transfer.ask("POST", path, TaskMessage, ready, patient_s=waited_s, short={})
                assert status == 204
                up, down = (after - count for after, count in zip(proxy.total, before, strict=True))
                found.append(Idle("TLS" if tls else "plain", wait_s, waited_s, up, down))
    return found


def main() -> None:
    """Measures, prints two tables, writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="additional exchanges to divide by")
    parser.add_argument("--patient", action="store_true", help="polls wait as long as they say: half an hour in all")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/framing.json"))
    given = parser.parse_args()
    exchanges = [exchange(given.rounds, tls=tls) for tls in (False, True)]
    idles = [one for tls in (False, True) for one in idle(tls=tls, patient=given.patient)]

    screen = console()
    shown = Sheet(
        "one exchange of one client, bytes by the proxy",
        ("transport", "payload up", "payload down", "framing up", "framing down", "framing"), text=("transport",),
    )  # fmt: skip
    for one in exchanges:
        counts = (one.payload_up, one.payload_down, one.framing_up, one.framing_down, one.framing)
        shown.add_row(one.transport, *(f"{count:.0f}" for count in counts))
    screen.print(shown)
    shown = Sheet("one poll without a task", ("transport", "wait_s", "up", "down", "B/s"), text=("transport",))
    for poll in idles:
        shown.add_row(poll.transport, str(poll.wait_s), str(poll.up), str(poll.down), f"{poll.per_second:.2f}")
    screen.print(shown)
    results = {
        "exchange": [asdict(one) | {"framing": one.framing} for one in exchanges],
        "idle": [asdict(poll) | {"bytes_per_second": poll.per_second} for poll in idles],
    }
    given.out.write_text(json.dumps(results, indent=2) + "\n")
    screen.print(f"written: {given.out}")


if __name__ == "__main__":
    main()
