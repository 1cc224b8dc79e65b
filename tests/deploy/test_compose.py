"""The compose file is sound, says what the relay understands, and its parts fit each other."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

import pytest
import yaml
from support.deployment import DEPLOY, ROOT, Container, compose, setting_names

from relay.cli import _parser
from relay.config import catalogue
from relay.health import Probe
from relay.health import _parser as health_parser
from relay.simulator.settings import SimulatorSettings

COMPOSE = compose()
SERVICES = COMPOSE["services"]
RELAYS = ("relay", "relay-2")
DEFAULTS = {spec.name: spec.default for spec in catalogue()}


# What `--env-file deploy/compose/shared.env` adds.
SHARED = dict(
    line.split("=", 1)
    for line in (DEPLOY / "compose" / "shared.env").read_text("utf-8").splitlines()
    if not line.startswith("#")
)


@pytest.fixture
def relay(tmp_path):
    return started(COMPOSE, "relay", tmp_path)


def started(told, name, root):
    """A relay of the compose file, with the files that it would find."""
    container = Container(root, told["services"][name]["environment"])
    for here, there in mounts(name):
        if here.is_file():
            container.put(there, here.read_text("utf-8"))
    for secret in told["services"][name]["secrets"]:
        container.put(f"/run/secrets/{secret}", (ROOT / told["secrets"][secret]["file"]).read_text("utf-8"))
    return container


def mounts(service):
    """(file or directory of the repository, path in the container) of each bind mount."""
    for volume in SERVICES[service].get("volumes", ()):
        source, target, *_ = volume.split(":")
        if source.startswith("."):
            yield ROOT / source, target


def test_it_is_what_the_compose_specification_allows():
    reader = pytest.importorskip("compose_spec", reason="needs compose-spec (pip install '.[deploy]')")
    spec = reader.PyCompose.from_json(json.dumps(COMPOSE)).to_spec()
    assert spec.services.keys() == SERVICES.keys()


def test_the_relay_would_start_with_these_settings(relay):
    assert set(relay.environment) <= setting_names()
    settings = relay.settings()
    settings.require_servable()
    assert settings.policy.instructions
    assert [str(each) for each in settings.ice.advertise] == ["127.0.0.1", address("relay")]


def address(service):
    return SERVICES[service]["networks"]["inside"]["ipv4_address"]


def test_the_relay_is_pointed_at_the_stand_in(relay):
    words = SERVICES["azure"]["command"]
    told = _parser().parse_args(words)
    settings = relay.settings()
    known = SimulatorSettings()
    assert told.host == address("azure")
    assert settings.upstream.endpoint == f"http://{told.host}:{told.port}"
    assert settings.upstream.api_key.reveal() == told.api_key == known.api_key
    assert settings.upstream.deployment in known.deployments
    assert settings.upstream.transcription_deployment in known.transcription_deployments
    assert settings.upstream.endpoint in " ".join(SERVICES["azure"]["healthcheck"]["test"])


def test_coturn_takes_the_relays_credentials_and_reaches_nothing_else(relay):
    text = (DEPLOY / "compose" / "turnserver.conf").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    told = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("denied"))
    settings = relay.settings()
    assert told["static-auth-secret"] == settings.turn.secret.reveal()
    assert told["allowed-peer-ip"] == address("relay")
    assert "denied-peer-ip=0.0.0.0-255.255.255.255" in lines
    assert {each.port for each in settings.turn.urls} == {int(told["listening-port"])}
    config = SERVICES["coturn"]["command"][SERVICES["coturn"]["command"].index("-c") + 1]
    assert config in {there for _, there in mounts("coturn")}


@pytest.mark.parametrize("service", SERVICES)
def test_everything_that_is_mounted_is_there(service):
    for here, _ in mounts(service):
        assert here.exists(), here
    for volume in SERVICES[service].get("volumes", ()):
        source = volume.split(":")[0]
        assert source.startswith("./") or source in COMPOSE["volumes"], volume


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_confined_watched_and_bounded(service):
    told = SERVICES[service]
    assert told["restart"] == "unless-stopped"
    assert told["read_only"] is True
    assert told["cap_drop"] == ["ALL"]
    assert told["security_opt"] == ["no-new-privileges:true"]
    assert told["healthcheck"]["test"][0] == "CMD"
    assert {"cpus", "mem_limit", "pids_limit"} <= set(told)
    assert told["logging"]["options"]["max-size"]
    assert "build" in told or re.fullmatch(r"docker\.io/[\w/]+:v?\d+(\.\d+){1,2}(-\w+)?", told["image"])


def test_nothing_is_reached_from_other_machines():
    for told in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in told.get("ports", ()))


def test_published_ports_are_the_relays(relay):
    settings = relay.settings()
    published = {tuple(port.removeprefix("127.0.0.1:").split(":")) for port in SERVICES["relay"]["ports"]}
    media = str(settings.ice.udp_port)
    assert published == {
        (str(settings.http.port),) * 2,
        (str(settings.admin.port),) * 2,
        (media, f"{media}/udp"),
        (str(settings.ice.tcp_port), f"{settings.ice.tcp_port}/tcp"),
    }
    assert (settings.http.port, settings.ice.udp_port) == (DEFAULTS["http.port"], DEFAULTS["ice.udp_port"])


def test_sessions_have_their_time_to_end(relay):
    grace = int(SERVICES["relay"]["stop_grace_period"].removesuffix("s"))
    assert grace > relay.settings().limits.drain_seconds


def test_what_waits_for_a_healthy_service_has_one_that_says_so():
    for told in SERVICES.values():
        for name, how in told.get("depends_on", {}).items():
            optional = {"required": False} if "profiles" in SERVICES[name] else {}
            assert how == {"condition": "service_healthy"} | optional
            assert "healthcheck" in SERVICES[name]


def test_the_health_command_is_the_relays():
    _, *words = SERVICES["relay"]["healthcheck"]["test"]
    assert words[1:3] == ["-m", "relay.health"]
    assert health_parser().parse_args(words[3:]).probe is Probe.READY


def test_prometheus_scrapes_the_relay_with_the_rules(relay):
    told = {there: here for here, there in mounts("prometheus")}
    words = dict(word.removeprefix("--").split("=", 1) for word in SERVICES["prometheus"]["command"])
    config = yaml.safe_load(told[words["config.file"]].read_text("utf-8"))
    settings = relay.settings()
    targets = [each for job in config["scrape_configs"] for group in job["static_configs"] for each in group["targets"]]
    assert targets == [f"relay:{settings.admin.port}"]
    assert settings.admin.host == "0.0.0.0"
    for rules in config["rule_files"]:
        assert f"/etc/prometheus/{rules}" in told
    assert words["storage.tsdb.path"] in {v.split(":")[1] for v in SERVICES["prometheus"]["volumes"]}


def test_grafana_finds_its_dashboards_and_prometheus():
    told = {there: here for here, there in mounts("grafana")}
    provisioning = told["/etc/grafana/provisioning"]
    providers = [yaml.safe_load(path.read_text("utf-8")) for path in (provisioning / "dashboards").glob("*.yaml")]
    paths = {each["options"]["path"] for found in providers for each in found["providers"]}
    assert paths == {"/etc/grafana/dashboards"}
    sources = [yaml.safe_load(path.read_text("utf-8")) for path in (provisioning / "datasources").glob("*.yaml")]
    port = SERVICES["prometheus"]["ports"][0].rsplit(":", 1)[1]
    assert {each["url"] for found in sources for each in found["datasources"]} == {f"http://prometheus:{port}"}
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (told["/etc/grafana/dashboards"] / home.rsplit("/", 1)[1]).is_file()


def test_the_address_at_the_top_is_the_one_to_open(relay):
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    port, key = re.search(r"http://localhost:(\d+)/#key=([\w-]+)", text).groups()
    settings = relay.settings()
    assert int(port) == settings.http.port
    assert [key] == [each.reveal() for each in settings.clients.keys]


def test_administrators_get_in_from_this_machine_with_a_key_from_a_file(relay):
    settings = relay.settings()
    assert settings.admin.key is not None
    assert "RELAY_ADMIN_KEY" not in relay.environment
    assert {"localhost", "127.0.0.1"} == set(settings.admin.hosts)
    assert settings.clients.keys[0].reveal() != settings.admin.key.reveal()
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    assert f"http://localhost:{settings.admin.port}/console/" in text


def test_alone_the_database_is_on_the_volume_of_the_state(relay):
    settings = relay.settings()
    assert settings.store.url is None
    assert settings.store.redis_url is None
    assert f"state:{relay.environment['RELAY_STATE_DIRECTORY']}" in SERVICES["relay"]["volumes"]


@pytest.mark.parametrize("name", ["relay", "relay-2"])
def test_with_the_profile_two_relays_share_a_store(name, tmp_path):
    told = compose(SHARED)
    assert {each for each, service in told["services"].items() if "profiles" in service} == {
        "relay-2", "postgres", "redis",
    }  # fmt: skip
    settings = started(told, name, tmp_path).settings()
    settings.require_servable()
    store, redis = urlsplit(settings.store.url.reveal()), urlsplit(settings.store.redis_url.reveal())
    database = told["services"]["postgres"]["environment"]
    assert (store.hostname, store.username, store.password, store.path) == (
        "postgres", database["POSTGRES_USER"], database["POSTGRES_PASSWORD"], f"/{database['POSTGRES_DB']}",
    )  # fmt: skip
    assert redis.hostname == "redis"
    assert SHARED["COMPOSE_PROFILES"] == "shared"


def test_the_two_relays_have_nothing_of_each_other_but_the_store(tmp_path):
    second = started(COMPOSE, "relay-2", tmp_path).settings()
    ports = [port.removesuffix("/udp").rsplit(":", 1)[0] for port in SERVICES["relay-2"]["ports"] if "udp" in port]
    own = SERVICES["relay-2"]["networks"]["inside"]["ipv4_address"]
    assert [str(each) for each in second.ice.advertise] == [*ports, own]
    assert not second.turn.urls
    state = {name: [v for v in SERVICES[name]["volumes"] if v.endswith(":/var/lib/relay")] for name in RELAYS}
    assert state["relay"] != state["relay-2"]
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(set(published)) == len(published)
    hosts = [f"{port.rsplit(':', 1)[0]}{'/udp' if port.endswith('udp') else ''}" for port in published]
    assert len(set(hosts)) == len(hosts)
