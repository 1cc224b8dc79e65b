"""What runs on the hosts: a relay, the stand-in for the service, Debian's TURN server; each a process of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.coturn import SECRET, require_coturn, self_signed

from network.lab import TESTS, Host

CLIENT_KEY = "client-key-on-the-network"
SERVICE_KEY = "service-key-on-the-network"
HTTP_PORT, OPERATIONS_PORT, MEDIA_PORT, SERVICE_PORT, SERVICE_MEDIA_PORT = 8080, 8081, 8443, 8090, 3478
TURN_PORT, TURNS_PORT = 3478, 443
INSTRUCTIONS = "You are the assistant of the network tests."
_READY_SECONDS = 20.0
_ENVIRONMENT = {"PYTHONPATH": f"{TESTS.parent}:{TESTS}", "PYTHONUNBUFFERED": "1"}


def url(address: str, port: int) -> str:
    """A plain HTTP URL."""
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


@dataclass(frozen=True, slots=True)
class Service:
    """The stand-in on its host."""

    host: Host
    address: str
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return url(self.address, SERVICE_PORT)

    def state(self) -> dict[str, Any]:
        """What it saw: `mints`, `calls`, `sessions`."""
        found: dict[str, Any] = self.host.json("GET", f"{self.url}/_state")
        return found

    def session(self) -> dict[str, Any]:
        """Its only session; fails if there was another, for that would be a second upstream leg."""
        sessions = self.state()["sessions"]
        assert len(sessions) == 1, [each["id"] for each in sessions]
        found: dict[str, Any] = sessions[0]
        return found

    def say(self, event: dict[str, Any]) -> None:
        """Send an event from its newest live session."""
        self.host.json("POST", f"{self.url}/_say", {"event": event})

    def fault(self, **wanted: Any) -> None:
        """Set faults."""
        self.host.json("POST", f"{self.url}/_fault", wanted)


@dataclass(frozen=True, slots=True)
class Relay:
    """The relay on its host; `url` is what browsers open."""

    host: Host
    url: str
    process: subprocess.Popen[bytes]

    def metrics(self) -> dict[str, float]:
        """Every sample by its name with labels."""
        status, text = self.host.http("GET", url("127.0.0.1", OPERATIONS_PORT) + "/metrics")
        assert status == 200
        lines = [line for line in text.decode().splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@dataclass(frozen=True, slots=True)
class Turn:
    """A TURN server: UDP and TCP on 3478, TLS on 443; its certificate signs itself."""

    host: Host
    address: str
    certificate: Path
    process: subprocess.Popen[bytes]
    secret: str = SECRET

    def url(self, way: str) -> str:
        """The URL of one way in: `udp`, `tcp` or `tls`."""
        shown = f"[{self.address}]" if ":" in self.address else self.address
        if way == "tls":
            return f"turns:{shown}:{TURNS_PORT}?transport=tcp"
        return f"turn:{shown}:{TURN_PORT}?transport={way}"


def stand_in(host: Host, address: str, options: Sequence[str] = ()) -> Service:
    """Run the stand-in; media of all sessions on one port, as the service has it."""
    words = ("-m", "relay", "simulate-azure", "--host", address, "--port", str(SERVICE_PORT), "--api-key", SERVICE_KEY)
    media = ("--udp-port", str(SERVICE_MEDIA_PORT))
    process = host.start(sys.executable, *words, *media, *options, log="service", environment=_ENVIRONMENT)
    return Service(host, address, process)


def relay_on(host: Host, address: str, service_url: str, environment: Mapping[str, str]) -> Relay:
    """Run `relay serve`, which browsers reach at `address`."""
    wildcard = "::" if ":" in address else "0.0.0.0"
    settings = {
        "RELAY_UPSTREAM_ENDPOINT": service_url,
        "RELAY_UPSTREAM_ALLOW_INSECURE": "true",
        "RELAY_UPSTREAM_API_KEY": SERVICE_KEY,
        "RELAY_UPSTREAM_DEPLOYMENT": "gpt-realtime",
        "RELAY_UPSTREAM_TRANSCRIPTION_DEPLOYMENT": "transcribe",
        "RELAY_CLIENT_KEYS": CLIENT_KEY,
        "RELAY_INSTRUCTIONS": INSTRUCTIONS,
        "RELAY_HTTP_HOST": wildcard,
        "RELAY_HTTP_PORT": str(HTTP_PORT),
        "RELAY_ADMIN_PORT": str(OPERATIONS_PORT),
        "RELAY_ICE_UDP_PORT": str(MEDIA_PORT),
        "RELAY_ICE_ADVERTISE": ",".join(host.seen_as),
        "RELAY_LOG_LEVEL": "debug",
        "RELAY_LIMITS_DRAIN_SECONDS": "0",
        # What else this machine does is no reason to refuse the one session a test wants.
        "RELAY_ADMISSION_CPU": "0",
        "RELAY_ADMISSION_LOOP_LAG_SECONDS": "0",
    }
    process = host.start(
        sys.executable, "-m", "relay", "serve", log="relay", environment={**_ENVIRONMENT, **settings, **environment}
    )
    return Relay(host, url(address, HTTP_PORT), process)


def turn_server(host: Host, address: str, directory: Path) -> Turn:
    """Run coturn with the shared secret of the tests."""
    program = require_coturn()
    certificate, key = self_signed(directory, address)
    lines = (
        *(f"listening-ip={each}" for each in host.addresses),
        *(f"relay-ip={each}" for each in host.addresses),
        f"listening-port={TURN_PORT}",
        f"tls-listening-port={TURNS_PORT}",
        "min-port=49152",
        "max-port=49407",
        "use-auth-secret",
        f"static-auth-secret={SECRET}",
        "realm=turn.test",
        f"cert={certificate}",
        f"pkey={key}",
        f"pidfile={directory / 'turnserver.pid'}",
        f"userdb={directory / 'turnserver.db'}",
        "log-file=stdout",
        "no-cli",
        "no-dtls",
        "no-rfc5780",
        "verbose",
    )
    configuration = directory / "turnserver.conf"
    configuration.write_text("\n".join(lines) + "\n")
    return Turn(host, address, certificate, host.start(program, "-c", str(configuration), log="turn"))


async def ready(relay: Relay, service: Service, turn: Turn | None) -> None:
    """Wait until all of them serve."""
    if turn is not None:
        await until(lambda: _listens(turn.host, turn.address, TURNS_PORT), "coturn listens", turn.process)
    await until(lambda: _answers(service.host, f"{service.url}/_state"), "the stand-in answers", service.process)
    readiness = url("127.0.0.1", OPERATIONS_PORT) + "/readyz"
    await until(lambda: _answers(relay.host, readiness), "the relay is ready", relay.process)


def _answers(host: Host, address: str) -> bool:
    try:
        return host.http("GET", address)[0] == 200
    except OSError:
        return False


async def until(
    wanted: Any, what: str, process: subprocess.Popen[bytes] | None = None, seconds: float = _READY_SECONDS
) -> Any:
    """Look again and again until `wanted()` gives something true, and return it; fails, naming `what`, in the end."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    # Other processes and the network between them tell nobody.
    while not (found := wanted()):
        assert process is None or process.poll() is None, f"ended with {process.returncode} before: {what}"
        assert loop.time() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.05)
    return found


def _listens(host: Host, address: str, port: int) -> bool:
    wanted = f"[{address}]:{port} " if ":" in address else f"{address}:{port} "
    done = subprocess.run(host.command("ss", "-Hltn"), capture_output=True, text=True, timeout=5, check=False)
    return wanted in done.stdout
