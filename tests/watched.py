"""Watching what a program does outside: a file, three sockets, and every process of a time; where boxes work."""

import ctypes
import os
import secrets
import socket
import time
from pathlib import Path

import pytest

from nanoschool.envs import bubblewrap
from nanoschool.types import UserError

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: whoever loses its parent becomes a child of ours


class Watched:
    """What a hostile program is aimed at, and the processes that are started in the meantime."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder, self.word = folder, f"canary{secrets.token_hex(8)}"
        self.sockets: list[socket.socket] = []

    def __enter__(self) -> "Watched":
        assert ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0) == 0
        self.before = descendants()
        os.environ["NANOSCHOOL_WATCHED"] = self.word
        if self.folder is not None:
            self.file = self.folder / "secret.py"
            self.file.write_text(f"WORD = '{self.word}'\n")
            for family, kind, address in (
                (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
                (socket.AF_INET, socket.SOCK_DGRAM, None),
                (socket.AF_UNIX, socket.SOCK_STREAM, str(self.folder / "socket")),
            ):
                here = socket.socket(family, kind)
                here.bind(address or self.sockets[0].getsockname())
                here.setblocking(False)
                if kind == socket.SOCK_STREAM:
                    here.listen()
                self.sockets.append(here)
        return self

    def __exit__(self, *error: object) -> None:
        del os.environ["NANOSCHOOL_WATCHED"]
        for here in self.sockets:
            here.close()

    def aimed(self, program: str) -> str:
        port = str(self.sockets[0].getsockname()[1])
        aims = {
            "FILE": str(self.file),
            "FOLDER": str(self.folder),
            "SOCKET": f"{self.folder}/socket",
            "PORT": port,
        }
        for name, aim in aims.items():
            program = program.replace(name, aim)
        return program

    def untouched(self) -> bool:
        """Nobody wrote to the folder, knocked at a socket or sent a word."""
        assert self.folder is not None
        stream, datagrams, local = self.sockets
        for knock in (stream.accept, local.accept, lambda: datagrams.recv(1)):
            try:
                knock()
                return False
            except BlockingIOError:
                continue
        names = sorted(path.name for path in self.folder.iterdir())
        return names == ["secret.py", "socket"] and self.word in self.file.read_text()

    def processes(self) -> set[int]:
        """Live processes that descend from ours and were not there at the start."""
        return descendants() - self.before

    def gone(self) -> bool:
        """All have ended within two seconds."""
        until = time.monotonic() + 2
        while self.processes() and time.monotonic() < until:
            time.sleep(0.01)
        return not self.processes()


def descendants() -> set[int]:
    """Our children, theirs and so on; those whose parent has ended too, for they come back to us."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue  # it has just ended
            if state != "Z":
                parents[int(entry.name)] = int(parent)
    found = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def trouble() -> str:
    try:
        bubblewrap.prove()
    except UserError as error:
        return str(error)
    return ""


TROUBLE = trouble()
# Marks what needs boxes of full CPython.
boxed = pytest.mark.skipif(bool(TROUBLE), reason=TROUBLE or "bubblewrap works here")
