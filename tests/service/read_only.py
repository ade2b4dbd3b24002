"""`read_only.py FOLDER WORDS...`: `thinwire-client WORDS` where everything but this folder is read-only.

Ends with 77 where the system does not let a process make such a place.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import sys
from pathlib import Path

NEW_NAMESPACES = 0x00020000 | 0x10000000  # mounts, users
READ_ONLY, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 32, 4096, 16384, 1 << 18
KEPT = {"nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21}
LIBRARY = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, flags: int) -> None:
    if LIBRARY.mount(source.encode(), target.encode(), None, flags, None) != 0:
        raise OSError(ctypes.get_errno(), target)


def main(folder: str) -> None:
    user, group = os.getuid(), os.getgid()
    if LIBRARY.unshare(NEW_NAMESPACES) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    mount("none", "/", PRIVATE | RECURSIVE)
    mount(folder, folder, BIND)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target, options = line.split()[4:6]
        if target != folder and not target.startswith(("/proc", "/sys", "/dev")):
            kept = sum(flag for name, flag in KEPT.items() if name in options.split(","))
            mount("none", target, REMOUNT | BIND | READ_ONLY | kept)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except OSError as error:
        print(f"this system makes no place that is read-only: {error}")
        raise SystemExit(77) from None
    for place in ("/", str(Path.home()), "/tmp"):  # noqa: S108
        assert not os.access(place, os.W_OK), f"{place} can be written"
    sys.argv = ["thinwire-client", *sys.argv[2:]]
    runpy.run_module("thinwire.edge_client", run_name="__main__", alter_sys=True)
