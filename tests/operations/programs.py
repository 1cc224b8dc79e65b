"""The programs of a deployment as processes: stand-in for the service, relay, Prometheus. All on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml
from support.coturn import self_signed
from support.policies import document, put

import relay
from benchmarks.processes import free_port
from deploy.monitoring.dashboards import DASHBOARDS
from deploy.monitoring.picture import Span, page
from deploy.monitoring.prometheus import rules_file
from deploy.monitoring.timing import Timing
from operations.prometheus import Prometheus

HOST = "127.0.0.1"
CLIENT_KEY = "client-key-for-tests"
DEPLOYMENT = "gpt-realtime"
STOP_SECONDS = 10.0
READY_SECONDS = 30.0
AUDIT_DISK_BYTES = 256 * 1024
SHORT = Timing(faster=60, shortest_window=5, longest_window=20, longest_wait=2, most_needed=1, evaluated_every="1s")
_ROOT = Path(relay.__file__).resolve().parents[1]


def why_not() -> str | None:
    """Say why a deployment cannot be run here; None if it can."""
    for program in ("prometheus", "promtool"):
        if shutil.which(program) is None:
            return f"there is no {program} (Debian: apt-get install prometheus)"
    if subprocess.run([*_own_mounts(), "true"], capture_output=True, check=False).returncode:
        return "no file systems can be mounted apart (root, or user namespaces)"
    return None


@dataclass(slots=True)
class Program:
    """A process that was started, and its output."""

    process: asyncio.subprocess.Process
    log: Path

    async def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """Ask it to end, and make it."""
        if self.process.returncode is None:
            self.process.terminate()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await self.process.wait()
            except TimeoutError:
                await self.kill()


class Deployment:
    """Everything that runs, and where."""

    def __init__(self, directory: Path, http: aiohttp.ClientSession) -> None:
        self.directory = directory
        self.http = http
        self.service_port, self.relay_port, self.admin_port, prometheus_port = (free_port() for _ in range(4))
        self.url = f"https://{HOST}:{self.relay_port}"
        self.operations_url = f"http://{HOST}:{self.admin_port}"
        self.service_url = f"http://{HOST}:{self.service_port}"
        self.policies = directory / "policies"
        self.prometheus_port = prometheus_port
        self.prometheus = Prometheus(f"http://{HOST}:{prometheus_port}", http)
        self._running: list[Program] = []

    async def start_service(self) -> Program:
        """Start the stand-in; after a kill it comes back at the same address."""
        service = await self._start(
            "service", sys.executable, "-m", "relay", "simulate-azure", "--port", str(self.service_port)
        )
        await self._answers(service, f"{self.service_url}/_state")
        return service

    async def start_relay(self) -> Program:
        """Start the relay, with a small disk of its own for the decision log."""
        disk = self.directory / "decisions"
        disk.mkdir()
        in_its_own = f'mount -t tmpfs -o size={AUDIT_DISK_BYTES} tmpfs "{disk}" && exec "$@"'
        command = [*_own_mounts(), "sh", "-c", in_its_own, "sh", sys.executable, "-m", "relay", "serve"]
        started = await self._start("relay", *command, **self._relay_settings(disk))
        await self._answers(started, f"{self.operations_url}/readyz")
        return started

    async def start_prometheus(self) -> Program:
        """Start Prometheus with the generated rules, shortened."""
        (self.directory / "rules.yaml").write_text(rules_file(SHORT))
        scraped = {"job_name": "relay", "static_configs": [{"targets": [f"{HOST}:{self.admin_port}"]}]}
        times = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config = {"global": times, "rule_files": ["rules.yaml"], "scrape_configs": [scraped]}
        (self.directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        options = (f"--config.file={self.directory}/prometheus.yml", f"--storage.tsdb.path={self.directory}/tsdb",
                   f"--web.listen-address={HOST}:{self.prometheus_port}", "--log.level=warn")  # fmt: skip
        started = await self._start("prometheus", "prometheus", *options)
        await self._answers(started, f"http://{HOST}:{self.prometheus_port}/-/ready")
        return started

    async def fault(self, **wanted: object) -> None:
        """Set faults at the stand-in, from none."""
        await self._control("/_fault", {"reset": True, **wanted})

    async def say(self, event: dict[str, object]) -> None:
        """Let the stand-in's newest session send an event."""
        await self._control("/_say", {"event": event})

    def fill_disk(self, program: Program) -> Path:
        """Fill the relay's audit disk to the last byte; delete the file that is returned to give it back."""
        ballast = Path(f"/proc/{program.process.pid}/root{self.directory}/decisions/ballast")
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1024))
        return ballast

    async def draw(self, pictures: Path) -> None:
        """Draw every dashboard of the run so far, into a directory that is there."""
        span = Span(self.prometheus.began, time.time(), "10s")
        for dashboard in DASHBOARDS:
            text = await page(self.http, f"http://{HOST}:{self.prometheus_port}", dashboard, span)
            (pictures / f"{dashboard.uid}.html").write_text(text, "utf-8")

    async def stop(self) -> None:
        """Stop what still runs, the last first."""
        while self._running:
            await self._running.pop().stop()

    def logs(self) -> str:
        """The last of what every program said."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.directory.glob("*.log"))
        )

    async def _control(self, path: str, body: object) -> None:
        async with self.http.post(self.service_url + path, json=body) as response:
            assert response.status == 200, await response.text()

    async def _start(self, name: str, *command: str, **environment: str) -> Program:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("RELAY_")}
        log = self.directory / f"{name}.log"
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                *command, cwd=self.directory, env={**inherited, "PYTHONPATH": str(_ROOT), **environment},
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._running.append(Program(process, log))
        return self._running[-1]

    async def _answers(self, program: Program, url: str) -> None:
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        while program.process.returncode is None and asyncio.get_running_loop().time() < deadline:
            try:
                async with self.http.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
        raise ConnectionError(f"{program.log.name} did not come up:\n{self.logs()}")

    def _relay_settings(self, disk: Path) -> dict[str, str]:
        certificate, key = self_signed(self.directory, HOST)  # good for a day: an alert says so
        put_policies(self.policies)
        return {
            "RELAY_UPSTREAM_ENDPOINT": self.service_url,
            "RELAY_UPSTREAM_DEPLOYMENT": DEPLOYMENT,
            "RELAY_UPSTREAM_TRANSCRIPTION_DEPLOYMENT": "transcribe",
            "RELAY_UPSTREAM_API_KEY": "simulator-resource-key",
            "RELAY_CLIENT_KEYS": CLIENT_KEY,
            "RELAY_POLICIES": str(self.policies),
            "RELAY_DECISION_LOG_DIRECTORY": str(disk),
            "RELAY_HTTP_HOST": HOST,
            "RELAY_HTTP_PORT": str(self.relay_port),
            "RELAY_HTTP_TLS_CERT_FILE": str(certificate),
            "RELAY_HTTP_TLS_KEY_FILE": str(key),
            "RELAY_ADMIN_PORT": str(self.admin_port),
            "RELAY_ICE_HOSTS": HOST,
            "RELAY_ICE_UDP_PORT": "0",
            "RELAY_ICE_TCP_PORT": "0",
            "RELAY_LIMITS_ICE_SECONDS": "2",
            "RELAY_LIMITS_DISCONNECTED_SECONDS": "3",
            "RELAY_LIMITS_CONSENT_SECONDS": "10",
            "RELAY_LIMITS_REATTACH_SECONDS": "2",
            "RELAY_LIMITS_DRAIN_SECONDS": "60",
            "RELAY_LOG_FORMAT": "json",
            "RELAY_WORKERS": "2",
            # Sessions are refused for their own sake here, not for what else the machine does.
            "RELAY_ADMISSION_CPU": "0",
            "RELAY_ADMISSION_LOOP_LAG_SECONDS": "0",
            "RELAY_ADMISSION_SETUPS": "0",
            "RELAY_COST_PRICES": f"{DEPLOYMENT} input_text=4 output_text=16 input_audio=32 output_audio=64",
        }


def put_policies(directory: Path, text: str = "You are the first.", **broken: str) -> None:
    """Write the policies: one that is enforced and one that only watches; whoever asks for another model has none."""
    first = document("first", text, match={"deployments": [DEPLOYMENT]}, apply="live")
    watching = document("watching", "You are watched.", match={"deployments": ["watched"]}, mode="audit")
    put(directory, first=first, watching=watching, **broken)


@contextlib.asynccontextmanager
async def deployed(directory: Path) -> AsyncIterator[Deployment]:
    """A deployment of which nothing is started yet; whatever runs at the end is stopped."""
    connector = aiohttp.TCPConnector(ssl=False)
    async with aiohttp.ClientSession(connector=connector) as http:
        deployment = Deployment(directory, http)
        try:
            yield deployment
        finally:
            await deployment.stop()


def _own_mounts() -> list[str]:
    """Run a command with mounts of its own."""
    return ["unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",))]
