"""Network namespaces: names that tell whose they are, entering, removing, and removing what the dead left."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

_DIRECTORY = Path("/run/netns")
_TUN = Path("/dev/net/tun")
_TUN_NUMBER = os.makedev(10, 200)
_CLONE_NEWNET = 0x40000000
_PREFIX = "rtlab"
_number = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


def why_not() -> str | None:
    """Why no network can be made here; None if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or shutil.which("nsenter") is None:
        return "there is no `ip` or no `nsenter` (Debian: iproute2, util-linux)"
    if not _TUN.exists():
        try:
            _TUN.parent.mkdir(exist_ok=True)
            os.mknod(_TUN, stat.S_IFCHR | 0o600, _TUN_NUMBER)
        except OSError as error:
            return f"there is no /dev/net/tun and it cannot be made: {error.strerror}"
    name = own_name("probe")
    try:
        os.close(os.open(_TUN, os.O_RDWR))
        ip("netns", "add", name)
    except (OSError, RuntimeError) as error:
        return f"no TUN device or namespace can be made here: {error}"
    remove(name)
    return None


def own_name(role: str) -> str:
    """A name given once: it holds this process's id, when it began, and a number."""
    return f"{_PREFIX}-{os.getpid()}-{_began(os.getpid())}-{next(_number)}-{role}"


def add(role: str) -> str:
    """Make a namespace with a working loopback and return its name. Raises RuntimeError."""
    name = own_name(role)
    ip("netns", "add", name)
    ip("-n", name, "link", "set", "lo", "up")
    return name


def remove(name: str) -> None:
    """Remove a namespace, if it is there."""
    if (_DIRECTORY / name).exists():
        ip("netns", "del", name)


def remove_leftovers() -> list[str]:
    """Remove namespaces, and files, of processes that are gone; their names."""
    found = []
    for directory in (_DIRECTORY, Path(tempfile.gettempdir())):
        for path in directory.glob(f"{_PREFIX}-*-*-*") if directory.is_dir() else ():
            _, pid, began, _ = path.name.split("-", 3)
            if not pid.isdecimal() or _began(int(pid)) == began:
                continue
            if directory == _DIRECTORY:
                remove(path.name)
            else:
                shutil.rmtree(path, ignore_errors=True)
            found.append(path.name)
    return found


@contextlib.contextmanager
def entered(name: str) -> Iterator[None]:
    """This thread is in the namespace within the block: what it opens there stays there. No await inside."""
    with (_DIRECTORY / name).open() as wanted, Path("/proc/thread-self/ns/net").open() as home:
        _set_namespace(wanted.fileno())
        try:
            yield
        finally:
            _set_namespace(home.fileno())


def ip(*words: str) -> str:
    """Run `ip`; raises RuntimeError with what it said."""
    done = subprocess.run(("ip", *words), capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _set_namespace(descriptor: int) -> None:
    # os.setns() is there from Python 3.12 on.
    if _libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _began(pid: int) -> str:
    try:
        # Field 22, in clock ticks since boot; the command before it may hold spaces and brackets.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
