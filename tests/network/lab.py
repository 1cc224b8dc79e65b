"""A network made for one test: hosts in namespaces of their own, each with one line whose conditions can be changed.

`python -m network.lab` opens a shape by hand: see docs/testing-network.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from network import namespaces
from network.link import DEVICE, MAX_REQUEST
from network.packet import Kind

TESTS = Path(__file__).parents[1]
BOTH = ("out", "into")
_ANSWER_SECONDS = 5.0
_STOP_SECONDS = 8.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Nat:
    """What stands between a host and the others: `1:1`, `napt` or `symmetric`, and the IPv4 address they see.

    `forwards` are ports of a 1:1 NAT that are others outside, each (outside, inside).
    """

    kind: str
    public: str
    forwards: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """One way of a line: packets by kind, those that stayed behind by `<why>:<kind>`, RTP flows, largest first."""

    counts: Mapping[str, int]
    flows: Sequence[Mapping[str, Any]]

    def audio(self, peer: Host | None = None) -> Mapping[str, Any]:
        """The largest RTP flow, to or from `peer`; raises LookupError when there was none."""
        found = next((flow for flow in self.flows if peer is None or flow["peer"] in peer.seen_as), None)
        if found is None:
            raise LookupError(f"no RTP {'' if peer is None else f'from or to {peer.role} '}was seen")
        return found

    def passed(self, kind: Kind) -> int:
        """How many of a kind came out at the far end."""
        stayed = sum(count for name, count in self.counts.items() if name.endswith(f":{kind}"))
        return self.counts.get(kind, 0) - stayed


class Host:
    """A namespace and its line."""

    def __init__(self, lab: Lab, role: str, addresses: tuple[str, ...], nat: Nat | None) -> None:
        self.role = role
        self.addresses = addresses
        self.nat = nat
        self.namespace = namespaces.add(role)
        self._lab = lab

    @property
    def seen_as(self) -> tuple[str, ...]:
        """The addresses the others use."""
        if self.nat is None:
            return self.addresses
        return (self.nat.public, *(each for each in self.addresses if ":" in each))

    def set(self, *, ways: Sequence[str] = BOTH, **conditions: Any) -> None:
        """Change the line's conditions (the fields of `line.Conditions`), both ways or one."""
        self._lab.ask("set", name=self.role, ways=list(ways), wanted=conditions)

    def rules(self, *rules: dict[str, Any]) -> None:
        """Replace the line's firewall: keywords of `line.Rule`."""
        self._lab.ask("rules", name=self.role, rules=list(rules))

    def blackout(self, seconds: float) -> None:
        """Drop everything for so long."""
        self._lab.ask("blackout", name=self.role, seconds=seconds)

    def rebind(self, protocol: str = "udp") -> int:
        """Let the NAT forget its mappings: the next packet leaves from another port. How many there were."""
        return int(self._lab.ask("rebind", name=self.role, protocol=protocol)["forgotten"])

    def move(self, *addresses: str) -> None:
        """Lose the present addresses and get others, as on a change of network; not for a host behind a NAT."""
        self.leave()
        self._lab.ask("readdress", name=self.role, addresses=list(addresses))
        self.addresses = addresses
        self._configure()

    def leave(self) -> None:
        """Lose every address; `move` gives others."""
        for address in self.addresses:
            namespaces.ip("-n", self.namespace, "addr", "del", _prefix(address), "dev", DEVICE)
        self.addresses = ()

    def seen(self, way: str) -> Seen:
        """What passed since the last `reset()`: `out` is what the host sent, `into` what reached it."""
        return self._lab.seen()[self.role][way]

    def audio(self, way: str, peer: Host | None = None) -> Mapping[str, Any]:
        """The largest RTP flow of a way, to or from `peer`; raises LookupError when there was none."""
        return self.seen(way).audio(peer)

    def clamp(self, mss: int) -> None:
        """Announce a maximum TCP segment, as routers in front of a small MTU make hosts do."""
        for family in self._families():
            ip = ("-n", self.namespace, family)
            namespaces.ip(*ip, "route", "replace", "default", "dev", DEVICE, "advmss", str(mss))

    def command(self, *words: str) -> list[str]:
        """The command line that runs something in this namespace."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "--", *words]

    def start(self, *words: str, log: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a program here; it ends with the lab, and with this process. `log` names the file of its output."""
        with (self._lab.directory / f"{log}.log").open("wb") as output:
            program = subprocess.Popen(
                self.command(*words),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environment is None else {**os.environ, **environment},
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - no thread of ours holds a lock here
            )
        self._lab.programs.append(program)
        return program

    def http(self, method: str, url: str, body: Any = None, seconds: float = 5.0) -> tuple[int, bytes]:
        """One HTTP request from within the namespace (blocking: for what answers at once). Raises OSError."""
        scheme, _, rest = url.partition("://")
        authority, _, path = rest.partition("/")
        if scheme != "http":
            raise ValueError(f"{url} is not plain HTTP")
        with namespaces.entered(self.namespace):
            connection = http.client.HTTPConnection(authority, timeout=seconds)
            try:
                text = None if body is None else json.dumps(body)
                connection.request(method, f"/{path}", text, {"Content-Type": "application/json"})
                response = connection.getresponse()
                return response.status, response.read()
            finally:
                connection.close()

    def json(self, method: str, url: str, body: Any = None) -> Any:
        """The same, with a JSON answer; anything but 200 raises RuntimeError."""
        status, text = self.http(method, url, body)
        if status != 200:
            raise RuntimeError(f"{method} {url}: {status} {text[:500].decode(errors='replace')}")
        return json.loads(text)

    def _attach(self, seed: int) -> None:
        nat = None
        if self.nat is not None:
            inner = next(each for each in self.addresses if ":" not in each)
            nat = {"kind": self.nat.kind, "inner": inner, "public": self.nat.public, "forwards": self.nat.forwards}
        self._lab.ask(
            "attach", name=self.role, namespace=self.namespace, addresses=list(self.seen_as), nat=nat, seed=seed
        )
        namespaces.ip("-n", self.namespace, "link", "set", DEVICE, "addrgenmode", "none")
        self._configure()

    def _configure(self) -> None:
        ip = ("-n", self.namespace)
        for address in self.addresses:
            namespaces.ip(*ip, "addr", "add", _prefix(address), "dev", DEVICE, *(("nodad",) if ":" in address else ()))
        namespaces.ip(*ip, "link", "set", DEVICE, "up")
        for family in self._families():
            namespaces.ip(*ip, family, "route", "replace", "default", "dev", DEVICE)

    def _families(self) -> list[str]:
        return sorted({"-6" if ":" in address else "-4" for address in self.addresses})


class Lab:
    """Hosts and the program between them. Everything is removed on leaving; what a killed process left, on entering."""

    def __init__(self, seed: int = 1) -> None:
        self.hosts: dict[str, Host] = {}
        self.programs: list[subprocess.Popen[bytes]] = []
        self._seed = seed
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        namespaces.remove_leftovers()
        with contextlib.ExitStack() as stack:
            self.directory = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{namespaces.own_name('files')}-"))
            )
            self._control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.callback(self._control.close)
            self._control.settimeout(_ANSWER_SECONDS)
            with far:
                self._link = subprocess.Popen(
                    (sys.executable, "-m", "network.link", str(far.fileno())),
                    pass_fds=(far.fileno(),),
                    env={**os.environ, "PYTHONPATH": str(TESTS)},
                    start_new_session=True,
                    preexec_fn=_die_with_parent,  # noqa: PLW1509 - no thread of ours holds a lock here
                )
            stack.callback(_stop, self._link)
            stack.callback(self._remove_hosts)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def host(self, role: str, *addresses: str, nat: Nat | None = None) -> Host:
        """Add a host with these addresses on its only interface, which is its default route."""
        host = self.hosts[role] = Host(self, role, addresses, nat)
        host._attach(self._seed)
        return host

    def reset(self) -> None:
        """Start counting anew."""
        self.ask("reset")

    def seen(self) -> dict[str, dict[str, Seen]]:
        """What passed since then, by host and way (`out`, `into`), all of it at one moment."""
        return {
            role: {
                way: Seen(found["counts"], sorted(found["flows"], key=lambda flow: -flow["packets"]))
                for way, found in ways.items()
            }
            for role, ways in self.ask("seen").items()
        }

    def ask(self, what: str, **details: Any) -> dict[str, Any]:
        """Make one request of the link; raises RuntimeError with what it says."""
        request = json.dumps({"do": what, **details}).encode()
        if len(request) > MAX_REQUEST:
            raise ValueError("the request is too long")
        self._control.send(request)
        answer: dict[str, Any] = json.loads(self._control.recv(MAX_REQUEST) or b'{"error": "it has ended"}')
        if "error" in answer:
            raise RuntimeError(f"the link: {answer['error']}")
        return answer

    def logs(self, last_bytes: int = 4_000) -> str:
        """The ends of what the programs printed."""
        found = []
        for path in sorted(self.directory.glob("*.log")):
            text = path.read_bytes()[-last_bytes:].decode(errors="replace")
            found.append(f"--- {path.name}\n{text}")
        return "\n".join(found)

    def _remove_hosts(self) -> None:
        for program in reversed(self.programs):
            _stop(program)
        for host in self.hosts.values():
            namespaces.remove(host.namespace)


def _stop(program: subprocess.Popen[bytes]) -> None:
    if program.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGTERM)
    try:
        program.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        program.wait()


def _prefix(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    from network.by_hand import main

    raise SystemExit(main())
