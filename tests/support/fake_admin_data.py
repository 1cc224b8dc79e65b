"""What the stand-in of the admin API has to show: sessions, records, usage, decisions. All of it invented."""

from __future__ import annotations

import hashlib
import time
from typing import Any

COMPANY = """\
# What holds for everybody.
apiVersion: relay/v1
kind: SessionPolicy
metadata:
  name: company-base
  owner: platform
spec:
  match: {default: true}
  instructions:
    text: |
      You are the voice assistant of Contoso.
      Be brief. You give no legal advice.
  session:
    fields:
      audio.output.voice: {default: marin, allow: [marin, cedar]}
      max_output_tokens: {default: 1024, max: 2048}
  tools: {clientFunctions: strip}
  limits: {sessionSeconds: 1800, idleSeconds: 120}
"""
CONTACT_CENTRE = """\
# The contact centre: the company's rules, made tighter.
apiVersion: relay/v1
kind: SessionPolicy
metadata:
  name: contact-centre
  owner: contact-centre
spec:
  extends: [company-base]
  match:
    priority: 100
    tenants: [contact-centre]
  limits: {sessionSeconds: 900}
  apply: live
"""
LIMITS = {
    "user_sessions": 2,
    "tenant_sessions": 20,
    "relay_sessions": 100,
    "user_minutes_a_day": 60,
    "tenant_minutes_a_day": 600,
    "relay_minutes_a_day": 0,
    "tenant_tokens_a_day": 1_000_000,
    "relay_dollars_a_day": 100,
    "sessions_on_failure": "fail_closed",
}
MEMBERS = (
    {"name": "sweden", "region": "swedencentral", "weight": 3, "state": "ready", "until": None, "last_error": None,
     "sessions": 3},
    {"name": "france", "region": "francecentral", "weight": 1, "state": "cooling", "until": time.time() + 25,
     "last_error": "429 rate_limit_exceeded", "sessions": 1},
    {"name": "east-us", "region": "eastus2", "weight": 1, "state": "down", "until": None,
     "last_error": "the connection was refused", "sessions": 0},
)  # fmt: skip


def subject_of(name: str) -> str:
    """The hash a user is known by."""
    return hashlib.sha256(name.encode()).hexdigest()


def leg(loss: float | None, jitter: float | None, rtt: float | None, packets: int = 0) -> dict[str, Any]:
    """One leg's figures."""
    return {
        "loss": loss, "jitter_ms": jitter, "rtt_ms": rtt, "packets_in": packets, "packets_out": packets,
    }  # fmt: skip


def live_session(number: int, tenant: str, user: str, seconds: float, **more: Any) -> dict[str, Any]:
    """A session that runs; `more` takes the place of what would be there."""
    contact_centre = tenant == "contact-centre"
    return {
        "id": f"rs_{number:04d}{hashlib.sha256(str(number).encode()).hexdigest()[:20]}",
        "tenant": tenant,
        "subject": subject_of(user),
        "policy": "contact-centre" if contact_centre else "company-base",
        "revision": subject_of("revision"),
        "door": "ga",
        "dialect": "ga",
        "phase": "active",
        "started_at": time.time() - seconds,
        "seconds": seconds,
        "deployment": "gpt-realtime",
        "member": "sweden",
        "transports": {"downstream": "udp", "upstream": "udp"},
        "quality": {
            "downstream": leg(0.002, 7, 46, int(seconds * 50)),
            "upstream": leg(0.0, 2, 18, int(seconds * 50)),
        },
        "turns": {"completed": int(seconds // 12), "cancelled": int(seconds // 70)},
        "tokens": int(seconds * 21),
        "dollars": seconds * 0.0011,
    } | more


def running() -> list[dict[str, Any]]:
    """Sessions of every sort."""
    poor = {"downstream": leg(0.062, 71, 310, 9_000), "upstream": leg(0.0, 2, 17, 9_000)}
    fair = {"downstream": leg(0.014, 24, 120, 4_000), "upstream": leg(0.001, 3, 21, 4_000)}
    return [
        live_session(1, "contact-centre", "anna", 754),
        live_session(2, "contact-centre", "bert", 421, quality=poor,
                     transports={"downstream": "tcp", "upstream": "udp"}),
        live_session(3, "sales", "chloe", 95, quality=fair, member="france"),
        live_session(4, "sales", "dirk", 38),
        live_session(5, "kiosk", "stand-7", 3, phase="connecting", turns={}, tokens=0, dollars=0.0,
                     quality={"downstream": leg(None, None, None), "upstream": leg(None, None, None)}),
    ]  # fmt: skip


def timeline(started_at: float) -> list[dict[str, Any]]:
    """What happened in a session."""
    stages = (
        ("upstream", "mint", 0.084), ("upstream", "call", 0.241),
        ("downstream", "ice", 0.271), ("upstream", "ice", 0.288),
        ("downstream", "dtls", 0.312), ("upstream", "dtls", 0.334), ("downstream", "channel", 0.347),
        ("upstream", "channel", 0.371), ("upstream", "policy", 0.402), ("upstream", "first_audio", 1.61),
    )  # fmt: skip
    told = [
        {"at": started_at + at, "kind": "stage", "leg": leg_name, "text": stage, "seconds": round(at / 4, 4)}
        for leg_name, stage, at in stages
    ]
    later: list[tuple[float, dict[str, Any]]] = [
        (0.372, {"kind": "transport", "leg": "downstream", "text": "udp"}),
        (0.403, {"kind": "phase", "text": "active"}),
        (1.6, {"kind": "answer_began", "seconds": 0.61}),
        (4.2, {"kind": "answered", "text": "completed", "seconds": 2.6, "tokens": 312}),
        (9.7, {"kind": "decision", "leg": "downstream", "text": "strip session.update session.instructions enforce"}),
        (14.1, {"kind": "answer_began", "seconds": 0.48}),
        (15.9, {"kind": "interrupted"}),
        (16.0, {"kind": "answered", "text": "cancelled", "seconds": 1.9, "tokens": 118}),
        (71.3, {"kind": "disconnected", "seconds": 1.4}),
        (72.7, {"kind": "reconnected", "seconds": 1.4}),
    ]
    return [*told, *({"at": started_at + at} | entry for at, entry in later)]


def recorded(count: int) -> list[dict[str, Any]]:
    """Sessions that are over, the last first."""
    now, reasons = time.time(), ("client_hung_up", "client_left", "policy_idle", "service_lost")
    rows = []
    for number in range(count):
        ended_at = now - 600 * (number + 1)
        seconds = 60 + 37 * (number % 9)
        row = live_session(100 + number, ("contact-centre", "sales")[number % 2], f"user-{number % 7}", seconds)
        row |= {
            "started_at": ended_at - seconds,
            "ended_at": ended_at,
            "reason": reasons[number % 4],
            "detail": "",
            "phase": "closed",
            "stages": {"upstream.mint": 0.084, "upstream.call": 0.241, "downstream.ice": 0.271},
            "request_ids": [],
            "trace_id": None,
            "reattached": 0,
        }
        rows.append(row)
    return rows


def used(days: int) -> list[dict[str, Any]]:
    """Usage by day, tenant and subject, the first day first."""
    people = (
        ("contact-centre", "anna", 9),
        ("contact-centre", "bert", 6),
        ("sales", "chloe", 4),
        ("kiosk", "stand-7", 2),
    )
    rows = []
    for back in range(days - 1, -1, -1):
        day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86_400 * back))
        for tenant, user, weight in people:
            seconds = 90.0 * weight * (1 + (back * 7 + weight) % 5)
            rows.append({"day": day, "tenant": tenant, "subject": subject_of(user), "sessions": weight + back % 3,
                         "seconds": seconds, "tokens": int(seconds * 20), "dollars": seconds * 0.0011})  # fmt: skip
    return rows


def decided(count: int) -> list[dict[str, Any]]:
    """Decisions, the last first."""
    kinds = (
        ("downstream", "session.update", "strip", "session.instructions"),
        ("downstream", "conversation.item.create", "refuse", "items.role"),
        ("downstream", "response.create", "refuse", "responses.overrides"),
        ("upstream", "session.updated", "withhold", "instructions.hidden"),
    )
    now, sessions = time.time(), running()
    rows = []
    for number in range(count, 0, -1):
        session = sessions[number % 4]
        leg_name, event, verdict, rule = kinds[number % 4]
        rows.append({
            "number": number, "at": now - 31 * (count - number), "session": session["id"], "tenant": session["tenant"],
            "subject": session["subject"], "policy": session["policy"], "revision": session["revision"],
            "leg": leg_name, "event_type": event, "verdict": verdict, "rule": rule, "mode": "enforce", "would_be": None,
            "content_sha256": None,
        })  # fmt: skip
    return rows


def totals(rows: list[dict[str, Any]], by: str) -> list[dict[str, Any]]:
    """Rows of usage added up by day, tenant or subject."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        of = {name: row[name] for name in (("tenant", "subject") if by == "subject" else (by,))}
        total = found.setdefault(row[by], {**of, "sessions": 0, "seconds": 0.0, "tokens": 0, "dollars": 0.0})
        for figure in ("sessions", "seconds", "tokens", "dollars"):
            total[figure] += row[figure]
    return list(found.values())
