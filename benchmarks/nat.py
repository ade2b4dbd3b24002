"""Rounds through a NAT that forgets connections which rest: `python -m benchmarks.nat`, as root on Linux.

A client in a network namespace of its own reaches the coordinator through a tunnel whose middle forgets a connection on
which nothing has moved for 20 s: from then on its packets vanish, both ways, without a word to either end. Another
client, on the direct way, takes a while for its training, so that the first one's connection rests in every round. The
same once more through a tunnel that forgets nothing. Printed: seconds of each round, and what the waiting client's link
carried meanwhile. Limit: with the NAT a round takes at most 1.5 times as long.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final, Self

from thinwire.operator.lab import ENVIRONMENT, Lab
from thinwire.protocol.settings import RunSettings

LIMIT: Final = 1.5
_SPACE: Final = "thinwire-nat"
_HERE, _THERE = "10.201.77.1", "10.201.77.2"
_TUNSETIFF, _TUN, _NO_INFO = 0x400454CA, 0x0001, 0x1000
_NEW_NETWORK: Final = 0x40000000
_SYN: Final = 0x02
_TASK: Final = """
import os, time
import torch
from thinwire.edge_client.data import Data

class Slow(torch.nn.Linear):
    def forward(self, inputs):
        if self.training:  # one batch is all that a round trains on
            time.sleep(float(os.environ["SLOW_S"]))
        return super().forward(inputs)

def model():
    return Slow(8, 2)

def data(client):
    torch.manual_seed(client.index)
    inputs = torch.randn(32, 8)
    return Data((inputs, (inputs[:, 0] > 0).long()))
"""


class Tunnel:
    """Two interfaces, one here and one in the namespace, and a thread between them. `forgets_s`: after so long without
    a packet a connection is forgotten; None: never.
    """

    def __init__(self, forgets_s: float | None) -> None:
        self._forgets_s = forgets_s
        self._moved_at: dict[bytes, float] = {}
        self._stop = threading.Event()
        self.forgotten: set[bytes] = set()
        self.bytes = 0

    def __enter__(self) -> Self:
        _run("ip", "netns", "add", _SPACE)
        self._here = _interface("tw-here")
        self._there = _in_space(_interface, "tw-there")
        _run("ip", "addr", "add", _HERE, "peer", _THERE, "dev", "tw-here")
        _run("ip", "link", "set", "tw-here", "up")
        for words in (("addr", "add", _THERE, "peer", _HERE, "dev", "tw-there"), ("link", "set", "tw-there", "up")):
            _run("ip", "-n", _SPACE, *words)
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._here)
        os.close(self._there)
        _run("ip", "netns", "del", _SPACE)

    def _carry(self) -> None:
        other = {self._here: self._there, self._there: self._here}
        while not self._stop.is_set():
            for end in select.select([*other], [], [], 0.2)[0]:
                packet = os.read(end, 65535)
                if self._passes(packet):
                    self.bytes += len(packet)
                    os.write(other[end], packet)

    def _passes(self, packet: bytes) -> bool:
        if len(packet) < 40 or packet[0] >> 4 != 4 or packet[9] != 6:
            return False
        head = 4 * (packet[0] & 15)
        ends = sorted((packet[12:16] + packet[head : head + 2], packet[16:20] + packet[head + 2 : head + 4]))
        connection, now = b"".join(ends), time.monotonic()
        if packet[head + 13] & _SYN:
            self.forgotten.discard(connection)
        elif self._forgets_s is not None and now - self._moved_at.get(connection, 0.0) > self._forgets_s:
            self.forgotten.add(connection)
        if connection in self.forgotten:
            return False
        self._moved_at[connection] = now
        return True


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def _interface(name: str) -> int:
    end = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TUN | _NO_INFO))
    return end


def _in_space(make: object, name: str) -> int:
    """Made by a thread that enters the namespace, and ends."""
    made: list[int] = []

    def enter() -> None:
        space = os.open(f"/run/netns/{_SPACE}", os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(space, _NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "the namespace cannot be entered")
        os.close(space)
        made.append(_interface(name))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return made[0]


def measure(folder: Path, rounds: int, slow_s: float, forgets_s: float | None) -> tuple[list[float], float, int]:
    """Seconds of each round, bytes a second on the tunnel with all its headers, and connections that were forgotten."""
    task = folder / "task.py"
    task.write_text(_TASK)
    with Tunnel(forgets_s) as tunnel, Lab(folder, ("--host", _HERE, "--insecure")) as lab:
        lab.serve()
        local = {"batch-size": 32, "epochs": 1}
        settings = {"name": "nat", "rounds": rounds, "cohort": 2, "evaluate": False, "settings": local}
        model = lab.first_model(("--task", str(task)))
        run = lab.start_run(model, RunSettings.model_validate(settings))
        clients = []
        for name, prefix, seconds in (("there", ("ip", "netns", "exec", _SPACE), 0.0), ("here", (), slow_s)):
            words = [*prefix, sys.executable, "-m", "thinwire.edge_client", "join", lab.url, "--name", name]
            words += [
                "--invite-file",
                str(lab.write_invite(name)),
                "--task",
                str(task),
                "--data-dir",
                str(folder / name),
            ]
            environment = {**os.environ, **ENVIRONMENT, "SLOW_S": str(seconds)}
            with (folder / f"{name}.log").open("wb") as log:
                clients.append(subprocess.Popen(words, env=environment, stdout=log, stderr=log))
        try:
            lab.wait(lambda: lab.metrics(run.id).exchanges != [], lab.coordinator, "the first round", 3600)
            begun, carried = time.monotonic(), tunnel.bytes
            lab.wait(lambda: lab.view(run.id).state == "finished", lab.coordinator, "the run", 3600)
            rate = (tunnel.bytes - carried) / (time.monotonic() - begun)
            return [one.seconds for one in lab.metrics(run.id).exchanges], rate, len(tunnel.forgotten)
        finally:
            for client in clients:
                client.terminate()
                client.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--slow-s", type=float, default=30.0)
    parser.add_argument("--forgets-s", type=float, default=20.0)
    given = parser.parse_args()
    found = {}
    for forgets_s in (None, given.forgets_s):
        with tempfile.TemporaryDirectory() as folder:
            seconds, rate, forgotten = measure(Path(folder), given.rounds, given.slow_s, forgets_s)
        found[forgets_s] = sum(seconds[1:])
        way = "nothing is forgotten" if forgets_s is None else f"forgotten after {forgets_s:g} s ({forgotten} were)"
        print(
            f"{way}: rounds of {', '.join(f'{one:.1f}' for one in seconds)} s; {rate:.1f} B/s on the link", flush=True
        )
    ratio = found[given.forgets_s] / found[None]
    print(f"{ratio:.2f} times as long; limit {LIMIT}")
    sys.exit(ratio > LIMIT)


if __name__ == "__main__":
    main()
