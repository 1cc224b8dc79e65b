"""The program's settings: one strict YAML file and the environment, which wins; secrets redacted on print.

Each setting is declared once, as a field of its section (`relay.config_sections`). Its YAML key is `section.key`, its
environment name `RELAY_SECTION_KEY` unless declared otherwise, and a secret or the instructions can be read from a file
named by the same key with `_file` (`…_FILE`). Sections are frozen values: derive another with `dataclasses.replace`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from relay.config_identity import TokenAlgorithm, oidc_problems, role_problems
from relay.config_network import TcpListener, own_port_problems, shared_port_problems
from relay.config_pool import MOST_MEMBERS, PoolMember
from relay.config_sections import (
    AdminOidcSettings,
    AdminSettings,
    AdmissionSettings,
    ClientSettings,
    CostSettings,
    DecisionLogSettings,
    EgressSettings,
    HttpSettings,
    IceSettings,
    LimitSettings,
    LogFormat,
    LogLevel,
    LogSettings,
    OidcSettings,
    OnLogFailure,
    OnStoreFailure,
    PolicySettings,
    QuotaSettings,
    StateSettings,
    StoreSettings,
    TraceSettings,
    TurnSettings,
    UpstreamAuth,
    UpstreamProtocol,
    UpstreamSettings,
    WorkerPorts,
    WorkerSettings,
)
from relay.config_sources import CONFIG_FILE_ENV, Given, SettingSpec, from_environment, from_yaml, parsed
from relay.config_values import Network, Secret, is_loopback
from relay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AdminOidcSettings",
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
    "OidcSettings",
    "OnLogFailure",
    "OnStoreFailure",
    "PolicySettings",
    "PoolMember",
    "QuotaSettings",
    "Secret",
    "SettingSpec",
    "Settings",
    "StateSettings",
    "StoreSettings",
    "TokenAlgorithm",
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

# Every URL is told in each answer, and browsers gather from all of them.
_MAX_ICE_SERVERS = 16
_IN_MEMORY = ("sqlite://", "sqlite:///", "sqlite:///:memory:")
OPENAI_ENDPOINT = "https://api.openai.com"
PREVIEW_WEBRTC_ENDPOINT = "https://{region}.realtimeapi-preview.ai.azure.com"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings; `origins` says where each that is not a default came from (`relay.yaml:12`, `env RELAY_…`)."""

    upstream: UpstreamSettings = field(default_factory=UpstreamSettings)
    clients: ClientSettings = field(default_factory=ClientSettings)
    oidc: OidcSettings = field(default_factory=OidcSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    decision_log: DecisionLogSettings = field(default_factory=DecisionLogSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    admin_oidc: AdminOidcSettings = field(default_factory=AdminOidcSettings)
    ice: IceSettings = field(default_factory=IceSettings)
    turn: TurnSettings = field(default_factory=TurnSettings)
    egress: EgressSettings = field(default_factory=EgressSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    quotas: QuotaSettings = field(default_factory=QuotaSettings)
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    state: StateSettings = field(default_factory=StateSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
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
        if not self.clients.keys and self.oidc.issuer is None and self.store_lasts:
            found.append("neither clients.keys nor oidc.issuer is set: only tenant keys of the store may mint")
        if self.policy.managed and not self.store_lasts:
            found.append(
                "policy.managed is true and the store is in memory: every policy that is published is gone with the "
                "process; set state.directory or store.url"
            )
        if (self.policy.documents is not None or self.policy.managed) and self.decision_log.directory is None:
            found.append(
                "decision_log.directory is not set: what the policies decide is counted and logged, and no chained "
                "record of it is kept"
            )
        if not self.store_lasts:
            found.append(
                "neither state.directory nor a store.url that lasts is set: session records, decisions, keys, usage "
                "and the audit log are kept in memory, but for keys the newest alone, and gone with this process"
            )
        has_documents = self.policy.documents is not None or self.policy.managed
        if not self.policy.instructions and self.policy.allow_empty and not has_documents:
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

    @property
    def store_lasts(self) -> bool:
        """Whether the store outlives this process, so that others can have put keys into it."""
        return self.store_url.reveal().partition("?")[0] not in _IN_MEMORY

    @property
    def store_url(self) -> Secret:
        """Where the store is: `store.url`, else a file in `state.directory`, else this process's memory."""
        if self.store.url is not None:
            return self.store.url
        if self.state.directory is None:
            return Secret(_IN_MEMORY[0])
        return Secret(f"sqlite:///{Path(self.state.directory).absolute() / 'relay.db'}")

    def require_servable(self) -> None:
        """Raise ConfigError naming everything that `relay serve` still needs."""
        missing = [*_missing_upstream(self.upstream)]
        if not self.clients.keys and self.oidc.issuer is None and not self.store_lasts:
            missing.append(
                _needs("clients.keys", "the keys with which your clients may mint")
                + " (or oidc.issuer for users' tokens; or state.directory or store.url, for keys of relay key create)"
            )
        policy = self.policy
        has_policy = policy.managed or policy.documents is not None or policy.instructions.strip()
        if not has_policy and not policy.allow_empty:
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


_SECTIONS = {
    item.name: cast("type[Any]", item.default_factory)
    for item in dataclasses.fields(Settings)
    if item.default_factory is not dict
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
    if upstream.pool:
        return dataclasses.replace(upstream, pool=tuple(_complete_member(upstream, each) for each in upstream.pool))
    if upstream.protocol is UpstreamProtocol.OPENAI and not upstream.endpoint:
        return dataclasses.replace(upstream, endpoint=OPENAI_ENDPOINT)
    if upstream.protocol is UpstreamProtocol.AZURE_PREVIEW and not upstream.webrtc_endpoint and upstream.region:
        origins["upstream.webrtc_endpoint"] = "built from upstream.region"
        return dataclasses.replace(upstream, webrtc_endpoint=PREVIEW_WEBRTC_ENDPOINT.format(region=upstream.region))
    return upstream


def _complete_member(upstream: UpstreamSettings, member: PoolMember) -> PoolMember:
    if upstream.protocol is UpstreamProtocol.AZURE_PREVIEW and not member.webrtc_endpoint and member.region:
        return dataclasses.replace(member, webrtc_endpoint=PREVIEW_WEBRTC_ENDPOINT.format(region=member.region))
    return member


def _contradictions(settings: Settings) -> list[str]:
    """Name settings that are each fine and do not go together."""
    upstream = settings.upstream
    found: list[str] = _pool_contradictions(settings)
    urls = [("endpoint", upstream.endpoint), ("webrtc_endpoint", upstream.webrtc_endpoint or "")]
    for member in upstream.pool:
        urls += [(f"pool: {member.name}: endpoint", member.endpoint)]
        urls += [(f"pool: {member.name}: webrtc_endpoint", member.webrtc_endpoint or "")]
    for key, url in urls:
        if url.startswith("http://") and not is_loopback(url) and not upstream.allow_insecure:
            found.append(
                f"upstream.{key}: the credential would travel unencrypted; use https "
                "(or set upstream.allow_insecure to true on a network you trust)"
            )
    if upstream.auth is UpstreamAuth.ENTRA and upstream.protocol is UpstreamProtocol.OPENAI:
        found.append("upstream.auth: entra is Azure's; with protocol openai use auth: key")
    if upstream.auth is UpstreamAuth.ENTRA and "upstream.api_key" in settings.origins:
        found.append("upstream.auth: entra asks with an identity, and upstream.api_key is set: keep one of them")
    if "policy.documents" in settings.origins and "policy.instructions" in settings.origins:
        found.append(
            "policy.documents (RELAY_POLICIES) takes the place of policy.instructions (RELAY_INSTRUCTIONS): "
            "keep one of them"
        )
    if settings.policy.managed and "policy.instructions" in settings.origins:
        found.append(
            "policy.managed keeps documents in the store, which take the place of policy.instructions "
            "(RELAY_INSTRUCTIONS): leave the instructions out"
        )
    priced = [each.deployment for each in settings.cost.prices]
    found.extend(f"cost.prices names {name} more than once" for name in sorted(set(priced)) if priced.count(name) > 1)
    found.extend([*oidc_problems(settings.origins), *role_problems(settings.admin_oidc)])
    found.extend(_network_contradictions(settings))
    found.extend([*_worker_contradictions(settings), *_port_contradictions(settings)])
    # Judged by what was written: a file that cannot be read is one problem, not two.
    if ("http.tls_cert_file" in settings.origins) != ("http.tls_key_file" in settings.origins):
        found.append("http.tls_cert_file and http.tls_key_file belong together: set both or neither")
    return found


def _pool_contradictions(settings: Settings) -> list[str]:
    upstream, origins = settings.upstream, settings.origins
    if not upstream.pool:
        return []
    single = [f"upstream.{key}" for key in ("endpoint", "webrtc_endpoint", "region", "api_key")]
    found = [
        f"{name} is for a single resource and upstream.pool is set: give it to the members there"
        for name in single
        if origins.get(name, "built").partition(" ")[0] != "built"
    ]
    names = [member.name for member in upstream.pool]
    found += [f"upstream.pool names {name} more than once" for name in sorted(set(names)) if names.count(name) > 1]
    if len(names) > MOST_MEMBERS:
        found.append(f"upstream.pool has {len(names)} members: at most {MOST_MEMBERS} are taken")
    origin = origins.get("upstream.pool", "")
    for member in upstream.pool:
        if member.key_written and origin and not origin.startswith("env "):
            found.append(
                f"{origin}: upstream.pool: {member.name}: a key does not belong in this file; use api_key_file"
            )
        if member.api_key is None and not member.entra and upstream.auth is not UpstreamAuth.ENTRA:
            found.append(f"upstream.pool: {member.name}: give api_key_file, or auth=entra")
        if member.entra and upstream.protocol is UpstreamProtocol.OPENAI:
            found.append(f"upstream.pool: {member.name}: entra is Azure's; with protocol openai use api_key_file")
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
    if egress.turn_url is None and "egress.turn_url" not in settings.origins:
        given = (name for name in settings.origins if name.startswith("egress.turn_"))
        found.extend(f"{name} is for egress.turn_url, which is not set" for name in given)
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
    return own_port_problems(workers.count, ports, ice.advertise)


def _port_contradictions(settings: Settings) -> list[str]:
    http, admin, ice, workers = settings.http, settings.admin, settings.ice, settings.workers
    listeners = [
        TcpListener("http.port", (http.host,), range(http.port, http.port + 1)),
        TcpListener("admin.port", (admin.host,), range(admin.port, admin.port + 1)),
    ]
    if ice.tcp:
        own = workers.count > 1 and workers.ports is WorkerPorts.OWN and ice.tcp_port
        first, count = (ice.tcp_port + 1, workers.count) if own else (ice.tcp_port, 1)
        # What a wildcard becomes by `ice.interfaces` is known when it is bound.
        hosts = tuple(host for host in ice.hosts if not (ice.interfaces and ipaddress.ip_address(host).is_unspecified))
        listeners.append(TcpListener("ice.tcp_port", hosts, range(first, first + count)))
    return shared_port_problems(listeners)


def _missing_upstream(upstream: UpstreamSettings) -> list[str]:
    missing: list[str] = []
    if upstream.pool:
        if not upstream.deployment:
            missing.append(_needs("upstream.deployment", "the name of the realtime deployment"))
        if upstream.protocol is UpstreamProtocol.AZURE_PREVIEW:
            regional = "has no region, which the preview's WebRTC URL is built from"
            missing += [f"upstream.pool: {each.name}: {regional}" for each in upstream.pool if not each.webrtc_endpoint]
        return missing
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
