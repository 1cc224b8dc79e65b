"""`python -m network.lab SHAPE`: a network to look at by hand, with a relay and the stand-in in it, until Ctrl-C."""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import shutil
import signal
from collections.abc import Sequence

from network import namespaces
from network.lab import Lab
from network.programs import CLIENT_KEY
from network.shapes import SHAPES, World, world

_HELP = """\
Make a network of the given shape on this machine, in network namespaces: a client, a relay, the stand-in for the
service and, where the shape has one, a TURN server. Needs root. Ctrl-C removes everything."""


def main(argv: Sequence[str] | None = None) -> int:
    """Open one shape."""
    shapes = "\n".join(f"  {name:<16}{shape.text}" for name, shape in SHAPES.items())
    parser = argparse.ArgumentParser(
        "network.lab",
        description=_HELP,
        epilog=f"shapes:\n{shapes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shape", choices=SHAPES, metavar="SHAPE")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a RELAY_… setting more")
    parser.add_argument("--shell", choices=("client", "relay", "service", "turn"), help="open a shell on that host")
    arguments = parser.parse_args(argv)
    reason = namespaces.why_not()
    if reason is not None:
        print(f"No network can be made here: {reason}.")
        return 1
    if SHAPES[arguments.shape].turn and shutil.which("turnserver") is None:
        print("This shape needs a TURN server (Debian: coturn).")
        return 1
    settings = dict(each.partition("=")[::2] for each in arguments.set)
    with Lab() as lab:
        return asyncio.run(_open(lab, arguments.shape, settings, arguments.shell))


async def _open(lab: Lab, name: str, settings: dict[str, str], shell: str | None) -> int:
    try:
        there = await world(lab, SHAPES[name], **settings)
    except AssertionError as error:
        print(f"{error}\n{lab.logs()}")
        return 1
    print(_directions(there, name), flush=True)
    if shell is not None:
        if shell not in lab.hosts:
            print(f"This shape has no {shell}.")
            return 1
        command = lab.hosts[shell].command(os.environ.get("SHELL", "/bin/sh"))
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, "PS1": f"{shell}$ "})
        await process.wait()
        return 0
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    return 0


def _directions(there: World, name: str) -> str:
    lab = there.lab
    hosts = "\n".join(
        f"  {host.role:<8} {', '.join(host.addresses)}"
        + (f"  (seen as {', '.join(host.seen_as)}: {host.nat.kind})" if host.nat else "")
        for host in lab.hosts.values()
    )
    inside = shlex.join(there.client.command())
    return f"""\
{name}: {SHAPES[name].text}

{hosts}

On the client, as root:
  {inside} curl -s {there.relay.url}/ | head
  {inside} chromium --no-sandbox --user-data-dir={lab.directory}/profile \\
      --unsafely-treat-insecure-origin-as-secure={there.relay.url} '{there.relay.url}/#key={CLIENT_KEY}'
On the relay:
  {shlex.join(lab.hosts["relay"].command())} curl -s http://127.0.0.1:8081/metrics
What the stand-in saw:
  {shlex.join(lab.hosts["service"].command())} curl -s {there.service.url}/_state
Logs: {lab.directory}
"""
