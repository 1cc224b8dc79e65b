"""`relay demo`: a relay on this machine alone, the stand-in for Azure behind it, and a console with something in it."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

from relay.config import (
    AdminSettings,
    AdmissionSettings,
    ClientSettings,
    DecisionLogSettings,
    HttpSettings,
    IceSettings,
    LimitSettings,
    LogLevel,
    LogSettings,
    PolicySettings,
    QuotaSettings,
    Secret,
    Settings,
    StateSettings,
    UpstreamSettings,
)
from relay.config_network import Advertised
from relay.simulator.settings import SimulatorSettings

# What the first revision holds: rules for all, that running sessions follow at once, and tighter ones for one tenant.
DOCUMENTS = {
    "house.yaml": """\
# What holds for everybody who talks to this demo. Change it in the console: running sessions follow at once.
apiVersion: relay/v1
kind: SessionPolicy
metadata:
  name: house
  owner: demo
spec:
  match: {default: true}
  instructions:
    text: |
      You are a friendly assistant. Be brief.
  session:
    fields:
      audio.output.voice: {default: marin, allow: [marin, cedar]}
      max_output_tokens: {default: 1024, max: 2048}
  tools: {clientFunctions: strip}
  limits: {sessionSeconds: 1800, idleSeconds: 300}
  apply: live
  tests:
    - name: instructions of a page change nothing
      client: {type: session.update, session: {type: realtime, instructions: "You are a pirate."}}
      expect: {decision: strip, rule: session.instructions, result: {session.instructions: null}}
""",
    "visitors.yaml": """\
# The house rules, tighter, for the tenant `visitors`: make a key of it under Keys and talk with that.
apiVersion: relay/v1
kind: SessionPolicy
metadata:
  name: visitors
  owner: demo
spec:
  extends: [house]
  match:
    priority: 10
    tenants: [visitors]
  limits: {sessionSeconds: 300}
  apply: live
  tests:
    - name: the voices of the house hold here too
      mint: {type: realtime, audio: {output: {voice: alloy}}}
      expect: {decision: strip, result: {session.audio.output.voice: marin}}
""",
}


async def run_demo(host: str, port: int) -> None:
    """Serve until a signal comes. Nothing is left on the disk."""
    from relay.app import Running, serve  # noqa: PLC0415
    from relay.simulator.simulator import Simulator  # noqa: PLC0415

    key, admin_key = secrets.token_urlsafe(24), secrets.token_urlsafe(24)

    def announce(running: Running) -> None:
        print(f"Open this page, allow the microphone and speak:\n\n    {running.public_url}/#key={key}\n")
        print("The stand-in for Azure speaks back what it heard. See and govern it in the admin console:\n")
        print(f"    {running.operations_url}/console/    key: {admin_key}\n\nStop with Ctrl-C.", flush=True)

    simulated = SimulatorSettings(ice_addresses=(host,), host=host)
    with tempfile.TemporaryDirectory(prefix="relay-demo-") as directory:
        async with Simulator(simulated) as simulator:
            keys = Secret(key), Secret(admin_key)
            await serve(demo_settings(host, port, simulator.url, simulated, keys, Path(directory)), announce)


def demo_settings(
    host: str, port: int, service_url: str, simulated: SimulatorSettings, keys: tuple[Secret, Secret], directory: Path
) -> Settings:
    """Return what `relay demo` runs with: free ports but for the page; one client key, one admin key.

    `directory` is empty, and takes the first documents, the decision log and what is kept.
    """
    documents, decisions, state = (directory / name for name in ("policies", "decisions", "state"))
    for place in (documents, decisions, state):
        place.mkdir()
    for name, text in DOCUMENTS.items():
        (documents / name).write_text(text, encoding="utf-8")
    client_key, admin_key = keys
    return Settings(
        upstream=UpstreamSettings(
            endpoint=service_url,
            api_key=Secret(simulated.api_key),
            deployment=simulated.deployments[0],
            transcription_deployment=simulated.transcription_deployments[0],
        ),
        clients=ClientSettings(keys=(client_key,)),
        policy=PolicySettings(documents=str(documents), managed=True),
        decision_log=DecisionLogSettings(directory=str(decisions)),
        http=HttpSettings(host=host, port=port),
        admin=AdminSettings(host=host, port=0, key=admin_key),
        # Firefox sends no media to a loopback address, and a machine without a network has no other.
        ice=IceSettings(advertise=(Advertised(host), Advertised("auto")), udp_port=0, tcp_port=0),
        # Whoever stops a demo does not wait for its conversation.
        limits=LimitSettings(drain_seconds=0),
        quotas=QuotaSettings(user_sessions=10, tenant_minutes_a_day=600, relay_tokens_a_day=1_000_000),
        # The stand-in runs in the same process: its load says nothing of the relay's.
        admission=AdmissionSettings(cpu=0, loop_lag_seconds=0, setups=0),
        state=StateSettings(directory=str(state)),
        log=LogSettings(level=LogLevel.WARNING),
    )
