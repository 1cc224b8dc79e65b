"""What the compose file says, on the addresses it says: a page talks to the stand-in, directly and through coturn."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.coturn import require_coturn
from support.deployment import DEPLOY, ROOT, Container, compose

from network.browser import chromium_on
from network.lab import TESTS, Host, Lab
from network.programs import Service, until

pytestmark = [pytest.mark.network, pytest.mark.timeout(90)]

SERVICES = compose()["services"]
# Where browsers on Linux come from: the gateway of the network.
BROWSER = "172.30.77.1"
KEY = SERVICES["relay"]["environment"]["RELAY_CLIENT_KEYS"]


def address(service: str) -> str:
    return SERVICES[service]["networks"]["inside"]["ipv4_address"]


@asynccontextmanager
async def composed(lab: Lab) -> AsyncIterator[tuple[Host, Service, str]]:
    """Start what the file has, in its order; `localhost`, which Docker publishes coturn on, is its address here."""
    try:
        client = lab.host("client", BROWSER)
        hosts = {name: lab.host(name, address(name)) for name in ("azure", "coturn", "relay")}
        paths = {"PYTHONPATH": f"{ROOT}:{TESTS}"}
        azure = hosts["azure"].start(
            sys.executable, "-m", "relay", *SERVICES["azure"]["command"], log="azure", environment=paths
        )
        coturn = hosts["coturn"].start(
            require_coturn(), "-c", str(DEPLOY / "compose" / "turnserver.conf"), log="coturn"
        )
        _, program, *probe = SERVICES["coturn"]["healthcheck"]["test"]
        assert program == "nc"
        port = int(probe[-1])
        await until(lambda: listens(hosts["coturn"], port), "coturn listens", coturn)
        await until(lambda: healthy(hosts["azure"], "azure", paths), "the stand-in is healthy", azure)

        container = Container(lab.directory, SERVICES["relay"]["environment"])
        container.put("/etc/relay/instructions.txt", (DEPLOY / "compose" / "instructions.txt").read_text("utf-8"))
        container.put("/run/secrets/admin-key", (DEPLOY / "compose" / "admin-key.txt").read_text("utf-8"))
        environment = {name: container.translated(value) for name, value in container.environment.items()}
        environment["RELAY_TURN_URLS"] = environment["RELAY_TURN_URLS"].replace("localhost", address("coturn"))
        relay = hosts["relay"].start(
            sys.executable, "-m", "relay", "serve", log="relay", environment=paths | environment
        )
        await until(lambda: healthy(hosts["relay"], "relay", paths | environment), "the relay is healthy", relay)
        service = Service(hosts["azure"], address("azure"), azure)
        yield client, service, f"http://{address('relay')}:8080"
    except Exception as error:
        error.add_note(lab.logs())
        raise


def healthy(host: Host, service: str, environment: dict[str, str]) -> bool:
    """What the service's own health command says."""
    _, program, *words = SERVICES[service]["healthcheck"]["test"]
    assert program == "/opt/relay/bin/python"
    command = host.command("env", *(f"{name}={value}" for name, value in environment.items()), sys.executable, *words)
    return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0


def listens(host: Host, port: int) -> bool:
    done = subprocess.run(host.command("ss", "-Hltn"), capture_output=True, text=True, timeout=5, check=False)
    return f":{port} " in done.stdout


@pytest.mark.parametrize("way", ["direct", "through coturn"])
async def test_the_page_talks_to_the_stand_in(lab: Lab, way):
    async with composed(lab) as (client, service, url):
        if way == "through coturn":
            media = {"host": address("relay"), "port": 8443}
            client.rules({"allow": False, "protocol": "udp", **media}, {"allow": False, "protocol": "tcp", **media})
        async with chromium_on(client, lab.directory, trusted=url) as browser:
            page = await browser.new_page()
            await page.goto(f"{url}/#key={KEY}")
            await page.click("#start")
            await page.wait_for_selector("body[data-state=live]", timeout=30_000)
            await until(lambda: service.session()["rtp"]["packets_received"] >= 50, "the service hears the page")
            peer = client if way == "direct" else lab.hosts["coturn"]
            await until(lambda: sent(lab.hosts["relay"], peer) >= 50, "the relay sends the answer that way")
            assert await page.locator("body").get_attribute("data-failure") is None


def sent(host: Host, peer: Host) -> int:
    """Packets of sound from a host to another."""
    try:
        return int(host.audio("out", peer)["packets"])
    except LookupError:
        return 0
