"""The two listeners of a relay: the public one for browsers, the one for operators and administrators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from relay.admin_side import AdminSide
from relay.api import (
    CONSOLE,
    Certificate,
    DoorSettings,
    Listener,
    create_operations_app,
    create_public_app,
    load_pages,
    web_directory,
)
from relay.config import Settings
from relay.errors import ConfigError
from relay.identity.opening import Identities
from relay.load import max_files
from relay.media_host import MediaHost
from relay.policies import Policies
from relay.rtc.check_peer import ConnectionChecks
from relay.session_side import SessionSide
from relay.telemetry import Telemetry, render_metrics

_MOST_HTTP_CONNECTIONS = 2_000
# Whoever can connect, with or without a key, must not be able to use up the open files that sessions need.
_HTTP_SHARE_OF_FILES = 4


@dataclass(frozen=True, slots=True)
class Served:
    """What the listeners show of the program."""

    settings: Settings
    telemetry: Telemetry
    metrics: CollectorRegistry
    policies: Policies
    media: MediaHost
    checks: ConnectionChecks
    sessions: SessionSide
    identities: Identities
    admin: AdminSide


def public_listener(served: Served) -> Listener:
    """Everything a browser can reach. Raises ConfigError for a certificate that cannot be used."""
    settings, telemetry, sessions = served.settings, served.telemetry, served.sessions
    http = settings.http
    doors = DoorSettings(settings.clients.key_seconds, http.allowed_origins, http.trusted_proxies, turn=settings.turn)
    application = create_public_app(
        doors,
        callers=served.identities.callers,
        ephemeral_keys=sessions.keys,
        sessions=sessions.registry,
        checks=served.checks,
        policy_for=served.policies.admit_key,
        telemetry=telemetry.doors,
        pages=load_pages(web_directory()),
        may_mint=sessions.quotas.may_mint,
    )
    certificate = _certificate(settings)
    if certificate is not None:
        telemetry.service.watch_expiry("tls_cert", lambda: certificate.expires_at)
    return Listener(
        application,
        host=http.host,
        port=http.port,
        telemetry=telemetry.doors,
        certificate=certificate,
        trusted_proxies=http.trusted_proxies,
        max_connections=min(_MOST_HTTP_CONNECTIONS, max_files() // _HTTP_SHARE_OF_FILES or _MOST_HTTP_CONNECTIONS),
    )


def operations_listener(served: Served, started: Callable[[], bool]) -> Listener:
    """Everything that operators, their machines and administrators reach; `started` is what `/startupz` tells."""
    admin, media = served.settings.admin, served.media

    async def scraped() -> tuple[bytes, str]:
        await media.refresh()
        return render_metrics(served.metrics)

    application = create_operations_app(
        sessions=served.sessions.registry,
        render_metrics=scraped,
        telemetry=served.telemetry.doors,
        details={"media_addresses": [str(each) for each in media.addresses]},
        drain=served.admin.drain,
        started=started,
        admin=served.admin.application,
        console=load_pages(web_directory() / CONSOLE),
        sign_in=served.identities.sign_in,
    )
    return Listener(
        application,
        host=admin.host,
        port=admin.port,
        telemetry=served.telemetry.doors,
        trusted_proxies=served.settings.http.trusted_proxies,
    )


def public_url(settings: Settings, listener: Listener) -> str:
    """Where browsers find a listener that has started, seen from this machine."""
    return _url("https" if settings.http.tls_cert_file else "http", settings.http.host, listener.port)


def operations_url(settings: Settings, listener: Listener) -> str:
    """Where operators find theirs."""
    return _url("http", settings.admin.host, listener.port)


def _certificate(settings: Settings) -> Certificate | None:
    cert, key = settings.http.tls_cert_file, settings.http.tls_key_file
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ConfigError("http.tls_cert_file and http.tls_key_file belong together: set both or none")
    return Certificate(cert, key)


def _url(scheme: str, host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"{scheme}://{shown}:{port}"
