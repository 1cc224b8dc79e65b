"""The sections of the settings and their closed vocabularies; each setting is declared here, once, as a field.

`relay.config` puts them together and reads them.
"""
# ruff: noqa: RUF009 - _setting() is dataclasses.field() with our metadata

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from relay import config_identity as identity
from relay import config_network as network
from relay import config_values as values
from relay.config_identity import TokenAlgorithm
from relay.config_network import Advertised, IceServer, PortRange
from relay.config_pool import ONLY_MEMBER, PoolMember, pool_member
from relay.config_prices import Prices, prices
from relay.config_values import Network, Secret

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


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


class OnStoreFailure(StrEnum):
    """What becomes of a limit while what it counts cannot be counted: nobody is let in, or everybody."""

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
    """The service. `endpoint` has no slash at its end; `deployment` empty means not configured yet.

    `pool` takes the place of endpoint, region, key: several resources that speak one protocol.
    """

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
    pool: tuple[PoolMember, ...] = _setting(pool_member, (), many=True)

    @property
    def members(self) -> tuple[PoolMember, ...]:
        """The pool; where it is empty, the one member that the other settings describe."""
        return self.pool or (PoolMember(ONLY_MEMBER, self.endpoint, self.region),)

    @property
    def regions(self) -> tuple[str, ...]:
        """Where there is a member, as far as it is told."""
        return tuple(dict.fromkeys(each.region for each in self.members if each.region is not None))

    def of_member(self, member: PoolMember) -> UpstreamSettings:
        """These settings as they are for one member alone."""
        if not self.pool:
            return self
        return replace(
            self,
            pool=(),
            endpoint=member.endpoint,
            webrtc_endpoint=member.webrtc_endpoint,
            region=member.region,
            deployment=member.deployment or self.deployment,
            auth=UpstreamAuth.ENTRA if member.api_key is None else UpstreamAuth.KEY,
            api_key=member.api_key,
        )


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Who may mint, and for how many seconds a minted key can open a session."""

    keys: tuple[Secret, ...] = _setting(values.client_key, (), env="RELAY_CLIENT_KEYS", many=True, secret=True)
    key_seconds: int = _setting(values.whole(10, 7200), 60)


_ALGORITHMS = (TokenAlgorithm.RS256, TokenAlgorithm.ES256)


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """Users with tokens at the doors. `issuer` None: none; `tenant` and `tenant_claim` None: the tenant `default`."""

    issuer: str | None = _setting(identity.issuer, None)
    audiences: tuple[str, ...] = _setting(identity.claim, (), many=True)
    algorithms: tuple[TokenAlgorithm, ...] = _setting(values.one_of(TokenAlgorithm), _ALGORITHMS, many=True)
    tenant: str | None = _setting(identity.tenant, None)
    tenant_claim: str | None = _setting(identity.claim, None)
    subject_claim: str = _setting(identity.claim, "sub")
    claims: tuple[str, ...] = _setting(identity.claim, (), many=True)
    clock_skew_seconds: float = _setting(values.seconds(0, 300), 60.0)
    jwks_seconds: float = _setting(values.seconds(60, 86_400), 3_600.0)


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """Policy documents (a directory or file), or else the administrator's instructions, "" where there are none.

    `managed`: policies are kept in the store, and the documents are put into it while it has none.
    """

    documents: str | None = _setting(values.policy_path, None, env="RELAY_POLICIES")
    instructions: str = _setting(values.instructions, "", env="RELAY_INSTRUCTIONS", text_file=True)
    allow_empty: bool = _setting(values.boolean, default=False)
    managed: bool = _setting(values.boolean, default=False)


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
    """The operations listener: metrics, health, drain, admin API. `key` is an owner's.

    `hosts` are names that browsers may call it by; none on loopback: this machine's own.
    """

    host: str = _setting(values.host, "127.0.0.1")
    port: int = _setting(values.whole(0, 65535), 8081)
    key: Secret | None = _setting(values.client_key, None, secret=True)
    hosts: tuple[str, ...] = _setting(values.host, (), many=True)


@dataclass(frozen=True, slots=True)
class AdminOidcSettings:
    """Administrators with tokens; `owners` to `viewers` are the values of `role_claim` that give each role."""

    issuer: str | None = _setting(identity.issuer, None)
    audiences: tuple[str, ...] = _setting(identity.claim, (), many=True)
    algorithms: tuple[TokenAlgorithm, ...] = _setting(values.one_of(TokenAlgorithm), _ALGORITHMS, many=True)
    client_id: str | None = _setting(identity.claim, None)
    role_claim: str = _setting(identity.claim, "roles")
    name_claim: str = _setting(identity.claim, "name")
    tenant_claim: str | None = _setting(identity.claim, None)
    owners: tuple[str, ...] = _setting(identity.claim, (), many=True)
    governors: tuple[str, ...] = _setting(identity.claim, (), many=True)
    operators: tuple[str, ...] = _setting(identity.claim, (), many=True)
    viewers: tuple[str, ...] = _setting(identity.claim, (), many=True)
    clock_skew_seconds: float = _setting(values.seconds(0, 300), 60.0)
    jwks_seconds: float = _setting(values.seconds(60, 86_400), 3_600.0)


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
class QuotaSettings:
    """What users, tenants and the relay may use together, see `relay.core.allowance`; 0: no limit."""

    user_sessions: int = _setting(values.whole(0, 100_000), 0)
    tenant_sessions: int = _setting(values.whole(0, 100_000), 0)
    relay_sessions: int = _setting(values.whole(0, 100_000), 0)
    user_minutes_a_day: int = _setting(values.whole(0, 10_000_000), 0)
    tenant_minutes_a_day: int = _setting(values.whole(0, 10_000_000), 0)
    relay_minutes_a_day: int = _setting(values.whole(0, 10_000_000), 0)
    user_tokens_a_day: int = _setting(values.whole(0, 999_999_999_999), 0)
    tenant_tokens_a_day: int = _setting(values.whole(0, 999_999_999_999), 0)
    relay_tokens_a_day: int = _setting(values.whole(0, 999_999_999_999), 0)
    user_dollars_a_day: float = _setting(values.amount, 0.0)
    tenant_dollars_a_day: float = _setting(values.amount, 0.0)
    relay_dollars_a_day: float = _setting(values.amount, 0.0)
    user_mints_a_minute: int = _setting(values.whole(0, 1_000_000), 0)
    tenant_mints_a_minute: int = _setting(values.whole(0, 1_000_000), 0)
    grace_seconds: float = _setting(values.seconds(0, 3_600), 10.0)
    sessions_on_failure: OnStoreFailure = _setting(values.one_of(OnStoreFailure), OnStoreFailure.FAIL_CLOSED)
    usage_on_failure: OnStoreFailure = _setting(values.one_of(OnStoreFailure), OnStoreFailure.FAIL_OPEN)
    mints_on_failure: OnStoreFailure = _setting(values.one_of(OnStoreFailure), OnStoreFailure.FAIL_OPEN)


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
class StoreSettings:
    """What is kept for administrators, and for how many days (0: for ever); several relays may share one store."""

    url: Secret | None = _setting(values.store_url, None, secret=True)
    redis_url: Secret | None = _setting(values.redis_url, None, secret=True)
    sessions_days: int = _setting(values.whole(0, 36_500), 90)
    decisions_days: int = _setting(values.whole(0, 36_500), 90)
    usage_days: int = _setting(values.whole(0, 36_500), 400)
    audit_days: int = _setting(values.whole(0, 36_500), 0)


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
