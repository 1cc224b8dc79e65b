"""The reference cannot lie: every word of the code is documented, and every documented word exists."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from relay.config import SettingSpec, catalogue, load_settings
from relay.core.claims import TokenRefusal
from relay.core.lifecycle import Dialect, LegCounters, SessionCounters
from relay.core.pool import Condition, MemberState
from relay.core.rtp import DropCause
from relay.core.verdicts import Rule, Verdict
from relay.errors import EndReason, ErrorCode
from relay.telemetry import Telemetry
from relay.telemetry.workers import WorkerFigures, WorkerMetrics, WorkerState

ROOT = Path(__file__).resolve().parents[2]
NOT_SET = "\N{EN DASH}"
REFERENCE = ROOT / "docs" / "reference"


def rows(text: str) -> list[list[str]]:
    """The cells of every table row that begins with a code word."""
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| `")
    ]


def section(name: str, heading: str) -> str:
    text = "\n" + (REFERENCE / name).read_text("utf-8")
    level = re.match("#+", heading).group()
    after = text.split(f"\n{heading}\n", 1)[1]
    return re.split(rf"\n{level} ", after, maxsplit=1)[0]


def default_as_written(spec: SettingSpec) -> str:
    match spec.default:
        case None | "" | ():
            return NOT_SET
        case bool():
            return f"`{str(spec.default).lower()}`"
        case tuple():
            return f"`{','.join(map(str, spec.default))}`"
        case float():
            return f"`{spec.default:g}`"
        case _:
            return f"`{spec.default}`"


def test_every_setting_is_documented_and_every_documented_setting_exists():
    documented = {row[0].strip("`"): row for row in rows((REFERENCE / "config.md").read_text("utf-8"))}
    known = {spec.name: spec for spec in catalogue()}
    assert list(documented) == list(known)
    for name, spec in known.items():
        _, env, default, meaning = documented[name]
        assert env == f"`{spec.env}`"
        assert default == default_as_written(spec), name
        assert ("*file*" in meaning) == spec.from_file, name


def test_every_word_in_the_example_file_is_a_setting_with_its_default():
    text = (ROOT / "relay.example.yaml").read_text("utf-8")
    specs = {spec.name: spec for spec in catalogue()}
    seen, current = set(), ""
    for line in text.splitlines():
        if heading := re.fullmatch(r"(\w+):", line):
            current = heading.group(1)
        elif found := re.match(r"  (# )?(\w+):(?: (.*))?$", line):
            commented, key, value = found.groups()
            name = f"{current}.{key.removesuffix('_file') if f'{current}.{key}' not in specs else key}"
            assert name in specs, line
            seen.add(name)
            default = default_as_written(specs[name]).strip("`")
            if commented and default != NOT_SET:
                assert re.sub(r'[][" ]', "", value or "") == default, line
    assert seen == set(specs)


def test_the_example_file_loads_and_lacks_only_the_secrets():
    settings = load_settings(str(ROOT / "relay.example.yaml"), {})
    assert settings.policy.instructions.startswith("You are the voice assistant")
    with_secrets = load_settings(
        str(ROOT / "relay.example.yaml"),
        {"RELAY_UPSTREAM_API_KEY": "resource-key", "RELAY_CLIENT_KEYS": "0123456789abcdef"},
    )
    with_secrets.require_servable()


@pytest.mark.parametrize(("heading", "words"), [("# Error codes", ErrorCode), ("# End reasons", EndReason)])
def test_every_error_code_and_end_reason_has_its_heading_and_words(heading, words):
    text = section("errors.md", heading)
    assert re.findall(r"^## (\S+)$", text, re.MULTILINE) == list(words)
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        assert len(part.split()) > 5, f"nothing is said about {part.split()[0]}"


@pytest.mark.parametrize(
    ("heading", "words"),
    [
        ("## Why tokens are refused", TokenRefusal),
        ("## Causes of drops", DropCause),
        ("## Verdicts", Verdict),
        ("## Rules", Rule),
    ],
)
def test_every_closed_word_of_the_metrics_is_explained(heading, words):
    assert [row[0].strip("`") for row in rows(section("metrics.md", heading))] == list(words)


def test_every_metric_is_documented_with_its_type_and_labels():
    registry = CollectorRegistry()
    telemetry = Telemetry(registry)
    telemetry.sessions.opened("rs_1", "ga_calls", Dialect.GA)
    counters = SessionCounters(LegCounters(dropped={"rate": 1}), events={("upstream", "error", "forward"): 1})
    telemetry.sessions.attach(lambda: {"rs_1": counters}, ready=lambda: True, draining=lambda: False)
    telemetry.service.watch_expiry("tls_cert", lambda: 1.0)
    telemetry.identity.watch_issuer("oidc", lambda: 1.0)
    telemetry.members.watch(lambda: [MemberState("a", None, 1, Condition.READY, None, None, 0)])
    registry.register(WorkerMetrics(lambda: (WorkerFigures(1, WorkerState.READY, 0, 0, 0.0, 0, 0.0),)))
    expected = {}
    for family in registry.collect():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        expected[family.name + ("_total" if family.type == "counter" else "")] = (family.type, labels)
    listed = section("metrics.md", "# Metrics").split("\n## ")[0]
    documented = {}
    for name, kind, labels, meaning in rows(listed):
        assert meaning
        documented[name.strip("`")] = (kind, set() if labels == NOT_SET else set(labels.split(", ")))
    if sys.platform != "linux":
        # prometheus_client reads the figures of the process from /proc.
        documented = {name: facts for name, facts in documented.items() if not name.startswith("process_")}
    assert documented.keys() == expected.keys()
    for name, (kind, labels) in expected.items():
        assert documented[name][0] == kind, name
        # A family that nothing was counted in yet shows no labels; the names come from the declaration.
        assert documented[name][1] == (labels or declared_labels(registry, name)), name


def declared_labels(registry: CollectorRegistry, name: str) -> set[str]:
    collector = registry._names_to_collectors.get(name)
    return set(getattr(collector, "_labelnames", ()))
