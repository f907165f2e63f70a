"""bubblewrap: boxes in which full CPython runs code that nobody has read, for what pydantic-monty cannot run.

A box has new namespaces (no network, no other process in sight), the interpreter and the system's libraries mounted
read-only, 16 MiB of /tmp, no /proc, no capability, and a seccomp filter. The filter is what holds the number of
processes at one: RLIMIT_NPROC does not count processes of root, nor those of a mapped root. So one process's
rlimits (set in envs/boxed.py before foreign code runs) are the box's, and killing the box leaves nothing behind.
Where bubblewrap is missing or does not work the answer is a UserError, never a bare subprocess.
"""

import json
import os
import platform
import select
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nanoschool.types import UserError

INSIDE = Path(__file__).with_name("boxed.py")
TMP_BYTES = 16 << 20
PROOF = "import os\ntry: os.fork()\nexcept OSError: print('holds', os.getuid())"

# Refused with EPERM: more processes or threads, sockets, memory that no rlimit counts, other ways out. In this order:
# clone fork vfork clone3 socket socketpair shmget msgget semget mq_open memfd_create memfd_secret ptrace
# process_vm_readv process_vm_writev unshare setns mount umount2 pivot_root chroot open_by_handle_at bpf
# io_uring_setup perf_event_open userfaultfd keyctl add_key request_key, and prctl, which could undo that a box
# dies with us. First stands the architecture's audit number.
SYSTEM_CALLS = {
    "x86_64": (
        0xC000003E,
        "56 57 58 435 41 53 29 68 64 240 319 447 101"
        " 310 311 272 308 165 166 155 161 304 321"
        " 425 298 323 250 248 249 157",
    ),
    "aarch64": (
        0xC00000B7,
        "220 - - 435 198 199 194 186 190 180 279 447 117"
        " 270 271 97 268 40 39 41 51 265 280"
        " 425 241 282 219 217 218 167",
    ),
}


@dataclass(frozen=True)
class Box:
    """A running box: bwrap's process, and a descriptor of process 1 inside."""

    process: subprocess.Popen[bytes]
    first: int

    def end(self) -> None:
        """Kill all that runs in the box; when this returns it is gone (the kernel ends process 1 last)."""
        with suppress(ProcessLookupError):  # it has ended by itself
            signal.pidfd_send_signal(self.first, signal.SIGKILL)
        select.select([self.first], [], [])
        os.close(self.first)
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def start(
    role: str, arguments: list[str], files: Mapping[str, str], stdin: int, stdout: int, stderr: int
) -> Box:
    """Start a box that runs envs/boxed.py as `role`, with `files` (text by name) under /box; the caller ends it.

    The streams are as for Popen. Raises UserError where bubblewrap is missing or does not work.
    """
    prove()
    return _start([f"/box/{INSIDE.name}", role, *arguments], files, stdin, stdout, stderr)


@cache
def prove() -> None:
    """See once that a box starts here and holds. Raises UserError with what is wrong and what to do."""
    if platform.system() != "Linux" or shutil.which("bwrap") is None:
        raise UserError(
            "running CPython programs of a model needs bubblewrap, and there is no `bwrap` on the PATH;"
            " on Linux install the package bubblewrap (there is none for other systems)"
        )
    if platform.machine() not in SYSTEM_CALLS:
        raise UserError(
            f"running CPython programs of a model: no system call table for {platform.machine()};"
            f" use a machine of {' or '.join(SYSTEM_CALLS)}"
        )
    try:
        box = _start(["-c", PROOF], {}, subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE)
    except ChildProcessError as failed:
        said = str(failed)
    else:
        out, complaint = box.process.communicate(timeout=30)
        box.end()
        said = " ".join((out + complaint).decode("utf-8", "replace").split())
    if said != "holds 65534":
        raise UserError(
            f"bubblewrap does not work in this place ({said[:200]}); allow unprivileged user namespaces,"
            " or run outside the container that forbids them"
        )


def command(
    python: list[str], data: Mapping[str, int], filter_fd: int, info_fd: int, go_fd: int
) -> list[str]:
    """The command line of a box; `data` gives, by name, a descriptor that holds a file's bytes."""
    interpreter = os.path.realpath(sys.executable)
    mounts = {interpreter: interpreter}
    own = {sysconfig.get_path("stdlib", vars={"base": sys.base_prefix}), f"{sys.base_prefix}/lib"}
    for path in (*sorted(own), "/usr/lib", "/usr/lib64", "/lib", "/lib64"):
        if os.path.isdir(path):
            mounts[path] = path
    line = ["bwrap", "--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534"]
    line += [
        "--hostname",
        "box",
        "--cap-drop",
        "ALL",
        "--as-pid-1",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
    ]
    line += ["--setenv", "PYTHONHASHSEED", "0", "--setenv", "PYTHONUTF8", "1"]
    for path in mounts:
        line += ["--ro-bind", path, path]
    line += ["--dev-bind", "/dev/null", "/dev/null", "--ro-bind", str(INSIDE), f"/box/{INSIDE.name}"]
    for name, descriptor in data.items():
        line += ["--ro-bind-data", str(descriptor), f"/box/{name}"]
    line += ["--size", str(TMP_BYTES), "--tmpfs", "/tmp", "--chdir", "/tmp", "--remount-ro", "/"]
    descriptors = ["--seccomp", str(filter_fd), "--info-fd", str(info_fd), "--block-fd", str(go_fd)]
    return [*line, *descriptors, "--", interpreter, "-P", "-s", "-S", "-B", *python]


def seccomp(machine: str) -> bytes:
    """The filter as the kernel reads it (classic BPF): EPERM for SYSTEM_CALLS, death for a foreign architecture."""
    audit, numbers = SYSTEM_CALLS[machine]
    refused = [int(number) for number in numbers.split() if number != "-"]
    load, equal, above, answer = 0x20, 0x15, 0x35, 0x06
    rows = [(load, 0, 0, 4), (equal, 1, 0, audit), (answer, 0, 0, 0x80000000), (load, 0, 0, 0)]
    # x86_64 has a second table of system calls from 2^30 on; nothing we run uses it.
    rows.append((above, len(refused) + 1, 0, 0x40000000))
    for at, number in enumerate(refused):
        rows.append((equal, len(refused) - at, 0, number))
    rows += [(answer, 0, 0, 0x7FFF0000), (answer, 0, 0, 0x00050001)]
    return b"".join(struct.pack("=HBBI", *row) for row in rows)


def _start(python: list[str], files: Mapping[str, str], stdin: int, stdout: int, stderr: int) -> Box:
    """Raises ChildProcessError, with what bwrap said, where the box does not come to be."""
    data = {name: _memory(text.encode("utf-8", "replace")) for name, text in files.items()}
    filter_fd = _memory(seccomp(platform.machine()))
    (info_out, info_in), (go_out, go_in) = os.pipe(), os.pipe()
    kept = (*data.values(), filter_fd, info_in, go_out)
    try:
        line = command(python, data, filter_fd, info_in, go_out)
        process = subprocess.Popen(line, pass_fds=kept, stdin=stdin, stdout=stdout, stderr=stderr)
    finally:
        for descriptor in kept:
            os.close(descriptor)
    with os.fdopen(info_out, "rb") as told, os.fdopen(go_in, "wb") as go:
        info = told.read()
        if not info:
            complaint = process.communicate()[1] or b"bwrap said nothing"
            raise ChildProcessError(" ".join(complaint.decode("utf-8", "replace").split()))
        # The box waits for our word, so its process 1 is still there and is the one we mean.
        first = os.pidfd_open(json.loads(info)["child-pid"])
        go.write(b"!")
    return Box(process, first)


def _memory(content: bytes) -> int:
    """A descriptor of an unnamed file with that content, at its start."""
    descriptor = os.memfd_create("box")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
