"""The program's settings: one strict YAML file and the environment, which wins; secrets redacted on print.

Each setting is declared once, as a field of its section. Its YAML key is `section.key`, its environment name
`RELAY_SECTION_KEY` unless declared otherwise, and a secret or the instructions can be read from a file named by the
same key with `_file` (`…_FILE`). Sections are frozen values: derive another with `dataclasses.replace`.
"""
# ruff: noqa: RUF009 - _setting() is dataclasses.field() with our metadata

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from relay import config_network as network
from relay import config_values as values
from relay.config_network import Advertised, IceServer, PortRange
from relay.config_prices import Prices, prices
from relay.config_sources import CONFIG_FILE_ENV, Given, SettingSpec, from_environment, from_yaml, parsed
from relay.config_values import Network, Secret, is_loopback
from relay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "AdminSettings",
    "AdmissionSettings",
    "ClientSettings",
    "ConfigError",
    "CostSettings",
    "DecisionLogSettings",
    "EgressSettings",
    "HttpSettings",
    "IceSettings",
    "LimitSettings",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "Network",
    "OnLogFailure",
    "PolicySettings",
    "Secret",
    "SettingSpec",
    "Settings",
    "StateSettings",
    "TraceSettings",
    "TurnSettings",
    "UpstreamAuth",
    "UpstreamProtocol",
    "UpstreamSettings",
    "WorkerPorts",
    "WorkerSettings",
    "catalogue",
    "load_settings",
]

T = TypeVar("T")

# Every URL is told in each answer, and browsers gather from all of them.
_MAX_ICE_SERVERS = 16
OPENAI_ENDPOINT = "https://api.openai.com"
PREVIEW_WEBRTC_ENDPOINT = "https://{region}.realtimeapi-preview.ai.azure.com"


class UpstreamProtocol(StrEnum):
    """Which service, and which of its protocols, stands upstream."""

    AZURE_GA = "azure-ga"
    AZURE_PREVIEW = "azure-preview"
    OPENAI = "openai"


class UpstreamAuth(StrEnum):
    """How the relay proves itself to the service: with the resource's key, or as an Entra ID identity."""

    KEY = "key"
    ENTRA = "entra"


class OnLogFailure(StrEnum):
    """What becomes of sessions when the decision log cannot be written, for a policy that does not say so itself."""

    FAIL_CLOSED = "fail_closed"
    FAIL_OPEN = "fail_open"


class WorkerPorts(StrEnum):
    """Whether all workers are behind one UDP and one TCP port, or each has its own."""

    SHARED = "shared"
    OWN = "own"


class LogLevel(StrEnum):
    """The least severe log line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """`auto` is console on a terminal and JSON elsewhere."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


def _setting(
    parse: Callable[[str], Any],
    default: T,
    *,
    env: str | None = None,
    many: bool = False,
    secret: bool = False,
    text_file: bool = False,
) -> T:
    """Declare a setting. `many`: a list; `secret`: never printed, may come from a file; `text_file`: as may text."""
    metadata = {"parse": parse, "env": env, "many": many, "secret": secret, "from_file": secret or text_file}
    return field(default=default, metadata=metadata, repr=not (secret or text_file))


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """The service. `endpoint` has no slash at its end; `deployment` empty means not configured yet."""

    protocol: UpstreamProtocol = _setting(values.one_of(UpstreamProtocol), UpstreamProtocol.AZURE_GA)
    endpoint: str = _setting(values.base_url, "")
    webrtc_endpoint: str | None = _setting(values.base_url, None)
    region: str | None = _setting(values.slug, None)
    api_version: str = _setting(values.slug, "2025-04-01-preview")
    deployment: str = _setting(values.name, "")
    transcription_deployment: str | None = _setting(values.name, None)
    auth: UpstreamAuth = _setting(values.one_of(UpstreamAuth), UpstreamAuth.KEY)
    api_key: Secret | None = _setting(values.secret, None, secret=True)
    entra_scope: str = _setting(values.scope, "https://cognitiveservices.azure.com/.default")
    timeout_seconds: float = _setting(values.seconds(1, 120), 15.0)
    allow_insecure: bool = _setting(values.boolean, default=False)
    early: bool = _setting(values.boolean, default=False)
    early_most: int = _setting(values.whole(1, 10_000), 50)


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Who may mint, and for how many seconds a minted key can open a session."""

    keys: tuple[Secret, ...] = _setting(values.client_key, (), env="RELAY_CLIENT_KEYS", many=True, secret=True)
    key_seconds: int = _setting(values.whole(10, 7200), 60)


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """Policy documents (a directory or file), or else the administrator's instructions, "" where there are none."""

    documents: str | None = _setting(values.policy_path, None, env="RELAY_POLICIES")
    instructions: str = _setting(values.instructions, "", env="RELAY_INSTRUCTIONS", text_file=True)
    allow_empty: bool = _setting(values.boolean, default=False)


@dataclass(frozen=True, slots=True)
class DecisionLogSettings:
    """The hash-chained record of decisions; `directory` None: none is kept."""

    directory: str | None = _setting(values.directory, None)
    on_failure: OnLogFailure = _setting(values.one_of(OnLogFailure), OnLogFailure.FAIL_CLOSED)
    file_bytes: int = _setting(values.whole(65_536, 4_294_967_296), 67_108_864)
    sync_seconds: float = _setting(values.seconds(0, 60), 1.0)
    head_seconds: float = _setting(values.seconds(1, 3_600), 60.0)


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """The public listener. `allowed_origins` empty: pages of the relay's own origin only."""

    host: str = _setting(values.host, "0.0.0.0")  # noqa: S104  the public listener is meant to be reached
    port: int = _setting(values.whole(0, 65535), 8080)
    tls_cert_file: str | None = _setting(values.readable_file, None)
    tls_key_file: str | None = _setting(values.readable_file, None)
    trusted_proxies: tuple[Network, ...] = _setting(values.network, (), env="RELAY_TRUSTED_PROXIES", many=True)
    allowed_origins: tuple[str, ...] = _setting(values.origin, (), env="RELAY_ALLOWED_ORIGINS", many=True)


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """The operations listener: metrics, health and drain. `key` is what draining asks for."""

    host: str = _setting(values.host, "127.0.0.1")
    port: int = _setting(values.whole(0, 65535), 8081)
    key: Secret | None = _setting(values.client_key, None, secret=True)


@dataclass(frozen=True, slots=True)
class IceSettings:
    """Media towards browsers: one UDP and one TCP port (0: any free one) and the addresses they are told.

    `hosts` are literal addresses; a wildcard of a family that this machine does not have is left out. `interfaces`
    narrows wildcards and `auto` to these interfaces, empty means all.
    """

    advertise: tuple[Advertised, ...] = _setting(network.advertised, (Advertised("auto"),), many=True)
    hosts: tuple[str, ...] = _setting(values.address, ("0.0.0.0", "::"), many=True)  # noqa: S104  browsers are anywhere
    interfaces: tuple[str, ...] = _setting(network.interface, (), many=True)
    udp_port: int = _setting(values.whole(0, 65535), 8443)
    tcp: bool = _setting(values.boolean, default=True)
    tcp_port: int = _setting(values.whole(0, 65535), 8443)


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """TURN and STUN servers handed to browsers; `secret` is the one shared with the TURN server, for credentials."""

    urls: tuple[IceServer, ...] = _setting(network.ice_server, (), many=True)
    secret: Secret | None = _setting(values.secret, None, secret=True)
    credential_seconds: int = _setting(values.whole(60, 86_400), 3_600)
    relay_only: bool = _setting(values.boolean, default=False)


@dataclass(frozen=True, slots=True)
class EgressSettings:
    """Media towards the service: which ways are tried, from which local ports, through which proxy or TURN server."""

    udp: bool = _setting(values.boolean, default=True)
    tcp: bool = _setting(values.boolean, default=True)
    udp_ports: PortRange | None = _setting(network.port_range, None)
    proxy: Secret | None = _setting(network.proxy_url, None, secret=True)
    turn_url: IceServer | None = _setting(network.turn_server, None)
    turn_username: str | None = _setting(values.name, None)
    turn_password: Secret | None = _setting(values.secret, None, secret=True)
    turn_secret: Secret | None = _setting(values.secret, None, secret=True)


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Bounds of the relay and of each session; the session's are `relay.core.lifecycle.SessionLimits`, same names."""

    max_sessions: int = _setting(values.whole(1, 100_000), 500)
    drain_seconds: float = _setting(values.seconds(0, 86_400), 30.0)
    ice_seconds: float = _setting(values.seconds(1, 120), 15.0)
    dtls_seconds: float = _setting(values.seconds(1, 120), 10.0)
    channel_seconds: float = _setting(values.seconds(1, 120), 10.0)
    policy_seconds: float = _setting(values.seconds(1, 120), 10.0)
    disconnected_seconds: float = _setting(values.seconds(3, 60), 8.0)
    consent_seconds: float = _setting(values.seconds(10, 300), 30.0)
    reattach_seconds: float = _setting(values.seconds(0, 600), 15.0)
    events_per_second: int = _setting(values.whole(1, 10_000), 100)
    client_bytes_per_second: int = _setting(values.whole(4_096, 67_108_864), 131_072)
    client_burst_bytes: int = _setting(values.whole(262_144, 67_108_864), 524_288)
    outbox_bytes: int = _setting(values.whole(65_536, 67_108_864), 1_048_576)
    packets_per_second: int = _setting(values.whole(50, 10_000), 400)


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """When new sessions are refused for want of room, see `relay.core.headroom`; 0 switches a limit off."""

    cpu: float = _setting(values.share, 0.85)
    loop_lag_seconds: float = _setting(values.seconds(0, 10), 0.03)
    files: float = _setting(values.share, 0.9)
    setups: int = _setting(values.whole(0, 10_000), 10)
    setup_cpu_seconds: float = _setting(values.seconds(0.001, 1), 0.02)


@dataclass(frozen=True, slots=True)
class StateSettings:
    """What the relay remembers over a restart; `directory` None: nothing."""

    directory: str | None = _setting(values.directory, None)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Processes that carry media; with `count` 1 the main process does, and there is no other."""

    count: int = _setting(values.whole(1, 64), 1, env="RELAY_WORKERS")
    ports: WorkerPorts = _setting(values.one_of(WorkerPorts), WorkerPorts.SHARED)


@dataclass(frozen=True, slots=True)
class CostSettings:
    """What the service's deployments cost, for the estimate of what sessions use."""

    prices: tuple[Prices, ...] = _setting(prices, (), many=True)


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """Whether sessions are traced; where traces go is said by the OTEL_… variables."""

    enabled: bool = _setting(values.boolean, default=False)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What the log holds and how it looks."""

    level: LogLevel = _setting(values.one_of(LogLevel), LogLevel.INFO)
    format: LogFormat = _setting(values.one_of(LogFormat), LogFormat.AUTO)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings; `origins` says where each that is not a default came from (`relay.yaml:12`, `env RELAY_…`)."""

    upstream: UpstreamSettings = field(default_factory=UpstreamSettings)
    clients: ClientSettings = field(default_factory=ClientSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    decision_log: DecisionLogSettings = field(default_factory=DecisionLogSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    ice: IceSettings = field(default_factory=IceSettings)
    turn: TurnSettings = field(default_factory=TurnSettings)
    egress: EgressSettings = field(default_factory=EgressSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    state: StateSettings = field(default_factory=StateSettings)
    workers: WorkerSettings = field(default_factory=WorkerSettings)
    cost: CostSettings = field(default_factory=CostSettings)
    traces: TraceSettings = field(default_factory=TraceSettings)
    log: LogSettings = field(default_factory=LogSettings)
    origins: dict[str, str] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know at start though it is allowed."""
        found: list[str] = []
        if not self.upstream.transcription_deployment:
            found.append(
                "upstream.transcription_deployment is not set: transcription is removed from every session, "
                "because the service would fail every turn that names a model it has no deployment for"
            )
        if self.policy.documents is not None and self.decision_log.directory is None:
            found.append(
                "decision_log.directory is not set: what the policies decide is counted and logged, and no chained "
                "record of it is kept"
            )
        if not self.policy.instructions and self.policy.allow_empty and self.policy.documents is None:
            found.append(
                "NO CENTRAL INSTRUCTIONS: policy.allow_empty is true, so sessions run without the administrator's text"
            )
        if "*" in self.http.allowed_origins:
            found.append("http.allowed_origins holds *: pages of every web site may use the relay with a key they hold")
        if not self.http.tls_cert_file and not self.http.trusted_proxies and not is_loopback(self.http.host):
            found.append(
                "the public listener speaks plain http beyond this machine: keys travel unencrypted and browsers give "
                "no microphone; set http.tls_cert_file and http.tls_key_file, or put TLS in front and name it in "
                "http.trusted_proxies"
            )
        return tuple(found)

    def require_servable(self) -> None:
        """Raise ConfigError naming everything that `relay serve` still needs."""
        missing = [*_missing_upstream(self.upstream)]
        if not self.clients.keys:
            missing.append(_needs("clients.keys", "the keys with which your clients may mint"))
        if self.policy.documents is None and not self.policy.instructions.strip() and not self.policy.allow_empty:
            missing.append(
                _needs("policy.instructions", "the instructions every session runs under")
                + " (or RELAY_INSTRUCTIONS_FILE, or documents in RELAY_POLICIES; RELAY_POLICY_ALLOW_EMPTY=true if "
                "there shall really be none)"
            )
        if missing:
            raise ConfigError("\n".join(missing))

    def redacted(self) -> dict[str, dict[str, Any]]:
        """`{"section.key": {"value", "origin", "env"}}` fit for print: no secret, no instruction text."""
        shown: dict[str, dict[str, Any]] = {}
        for spec in catalogue():
            value = getattr(getattr(self, spec.section), spec.key)
            origin = self.origins.get(spec.name, "default")
            shown[spec.name] = {"value": _printable(spec, value), "origin": origin, "env": spec.env}
        return shown


_SECTIONS: dict[str, type[Any]] = {
    "upstream": UpstreamSettings,
    "clients": ClientSettings,
    "policy": PolicySettings,
    "decision_log": DecisionLogSettings,
    "http": HttpSettings,
    "admin": AdminSettings,
    "ice": IceSettings,
    "turn": TurnSettings,
    "egress": EgressSettings,
    "limits": LimitSettings,
    "admission": AdmissionSettings,
    "state": StateSettings,
    "workers": WorkerSettings,
    "cost": CostSettings,
    "traces": TraceSettings,
    "log": LogSettings,
}


def catalogue() -> tuple[SettingSpec, ...]:
    """Every setting there is, in the order of the manual."""
    specs: list[SettingSpec] = []
    for section, cls in _SECTIONS.items():
        for item in dataclasses.fields(cls):
            facts = dict(item.metadata)
            env = facts.pop("env") or f"RELAY_{section}_{item.name}".upper()
            specs.append(SettingSpec(section=section, key=item.name, env=env, default=item.default, **facts))
    return tuple(specs)


def load_settings(path: str | None, environ: Mapping[str, str]) -> Settings:
    """Read the YAML file at `path` (else at `RELAY_CONFIG`, else none) and the `RELAY_…` environment over it.

    Raises ConfigError with one line for each problem found.
    """
    specs = catalogue()
    problems: list[str] = []
    given: dict[str, Given] = {}
    file = path or environ.get(CONFIG_FILE_ENV)
    if file:
        given.update(from_yaml(file, specs, problems))
    given.update(from_environment(environ, specs, problems))
    found = {spec.name: parsed(spec, given[spec.name], problems) for spec in specs if spec.name in given}
    sections = {
        section: cls(**{spec.key: found[spec.name] for spec in specs if spec.section == section and spec.name in found})
        for section, cls in _SECTIONS.items()
    }
    origins = {name: source.origin for name, source in given.items()}
    sections["upstream"] = _complete_upstream(sections["upstream"], origins)
    settings = Settings(**sections, origins=origins)
    problems.extend(_contradictions(settings))
    if problems:
        raise ConfigError("\n".join(problems))
    return settings


def _complete_upstream(upstream: UpstreamSettings, origins: dict[str, str]) -> UpstreamSettings:
    if upstream.protocol is UpstreamProtocol.OPENAI and not upstream.endpoint:
        return dataclasses.replace(upstream, endpoint=OPENAI_ENDPOINT)
    if upstream.protocol is UpstreamProtocol.AZURE_PREVIEW and not upstream.webrtc_endpoint and upstream.region:
        origins["upstream.webrtc_endpoint"] = "built from upstream.region"
        return dataclasses.replace(upstream, webrtc_endpoint=PREVIEW_WEBRTC_ENDPOINT.format(region=upstream.region))
    return upstream


def _contradictions(settings: Settings) -> list[str]:
    """Name settings that are each fine and do not go together."""
    upstream = settings.upstream
    found: list[str] = []
    for key, url in (("endpoint", upstream.endpoint), ("webrtc_endpoint", upstream.webrtc_endpoint or "")):
        if url.startswith("http://") and not is_loopback(url) and not upstream.allow_insecure:
            found.append(
                f"upstream.{key}: the credential would travel unencrypted; use https "
                "(or set upstream.allow_insecure to true on a network you trust)"
            )
    if upstream.auth is UpstreamAuth.ENTRA and upstream.protocol is UpstreamProtocol.OPENAI:
        found.append("upstream.auth: entra is Azure's; with protocol openai use auth: key")
    if "policy.documents" in settings.origins and "policy.instructions" in settings.origins:
        found.append(
            "policy.documents (RELAY_POLICIES) takes the place of policy.instructions (RELAY_INSTRUCTIONS): "
            "keep one of them"
        )
    priced = [each.deployment for each in settings.cost.prices]
    found.extend(f"cost.prices names {name} more than once" for name in sorted(set(priced)) if priced.count(name) > 1)
    found.extend(_network_contradictions(settings))
    found.extend(_worker_contradictions(settings))
    # Judged by what was written: a file that cannot be read is one problem, not two.
    if ("http.tls_cert_file" in settings.origins) != ("http.tls_key_file" in settings.origins):
        found.append("http.tls_cert_file and http.tls_key_file belong together: set both or neither")
    return found


def _network_contradictions(settings: Settings) -> list[str]:
    turn, egress = settings.turn, settings.egress
    has_turn = any(each.is_turn for each in turn.urls)
    found: list[str] = []
    if has_turn and "turn.secret" not in settings.origins:
        found.append("turn.urls names a TURN server: set turn.secret, the secret it shares with the relay")
    if len(turn.urls) > _MAX_ICE_SERVERS:
        found.append(f"turn.urls names {len(turn.urls)} servers: browsers take {_MAX_ICE_SERVERS}")
    if turn.relay_only and not has_turn:
        found.append("turn.relay_only is true and turn.urls names no TURN server: no browser could connect")
    if not egress.udp and not egress.tcp and egress.turn_url is None:
        found.append(
            "egress.udp and egress.tcp are false and there is no egress.turn_url: no way to the service is left"
        )
    by_password = {"egress.turn_username", "egress.turn_password"} & set(settings.origins)
    if egress.turn_url is not None and (
        len(by_password) == 1 or bool(by_password) == ("egress.turn_secret" in settings.origins)
    ):
        found.append(
            "egress.turn_url needs credentials: either egress.turn_secret, or egress.turn_username with "
            "egress.turn_password"
        )
    if egress.turn_url is None and {name for name in settings.origins if name.startswith("egress.turn_")}:
        found.append("egress.turn_username, turn_password and turn_secret are for egress.turn_url, which is not set")
    if egress.proxy is not None and not egress.tcp:
        found.append("egress.proxy is for media over TCP, and egress.tcp is false")
    if egress.udp_ports is not None and not egress.udp:
        found.append("egress.udp_ports is for media over UDP, and egress.udp is false")
    if settings.limits.disconnected_seconds >= settings.limits.consent_seconds:
        found.append("limits.disconnected_seconds must be shorter than limits.consent_seconds")
    return found


def _worker_contradictions(settings: Settings) -> list[str]:
    ice, workers = settings.ice, settings.workers
    if workers.count == 1 or workers.ports is WorkerPorts.SHARED:
        return []
    ports = {"ice.udp_port": ice.udp_port} | ({"ice.tcp_port": ice.tcp_port} if ice.tcp else {})
    return network.own_port_problems(workers.count, ports, ice.advertise)


def _missing_upstream(upstream: UpstreamSettings) -> list[str]:
    missing: list[str] = []
    if not upstream.endpoint:
        missing.append(_needs("upstream.endpoint", "the base URL of your resource, https://….openai.azure.com"))
    if not upstream.deployment:
        missing.append(_needs("upstream.deployment", "the name of the realtime deployment"))
    if upstream.auth is UpstreamAuth.KEY and upstream.api_key is None:
        missing.append(_needs("upstream.api_key", "the resource's key (or set RELAY_UPSTREAM_AUTH=entra)"))
    if upstream.protocol is UpstreamProtocol.AZURE_PREVIEW and not upstream.webrtc_endpoint:
        missing.append(_needs("upstream.region", "the resource's region, for the preview's WebRTC URL"))
    return missing


def _needs(name: str, what: str) -> str:
    env = next(spec.env for spec in catalogue() if spec.name == name)
    return f"{name} is not set: give {what}; environment: {env}"


def _printable(spec: SettingSpec, value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case str() if spec.key == "instructions":
            digest = hashlib.sha256(value.encode()).hexdigest()[:12]
            return f"({len(value)} characters, sha256 {digest}…)" if value else ""
        case _ if spec.secret:
            return _counted(value) if isinstance(value, tuple) else "(set)"
        case tuple():
            return [str(item) for item in value]
        case _:
            return str(value)


def _counted(secrets: tuple[Secret, ...]) -> str | None:
    return f"({len(secrets)} set)" if secrets else None
