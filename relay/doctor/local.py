"""Checks of this machine and its files: settings, policies, decision log, certificate, administrators, versions."""

from __future__ import annotations

import platform
import resource
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

import relay
from relay.config import Settings, load_settings
from relay.config_values import is_loopback
from relay.doctor.checks import Check, CheckName, Status
from relay.errors import ConfigError
from relay.kill_file import KILL_FILE, KillFile
from relay.policy_files import check_policies
from relay.rtc.probe import library_versions

EXPIRES_SOON_DAYS = 14
# Per session: the upstream leg while it tries every way (UDP of both families, TCP, TURN), and the client's own
# connections (media over TCP, one HTTP request). Once connected it is one upstream and at most one downstream.
SOCKETS_CONNECTING = 6
SOCKETS_CONNECTED = 2
# Listeners, log, certificates, the event loop, connections to the service.
FILES_OF_THE_RELAY = 200
_OLDEST_PYTHON = (3, 11)


def configuration(path: str | None, environ: Mapping[str, str]) -> tuple[Settings | None, list[Check]]:
    """Load the settings as `relay serve` does; each problem and each warning is a check of its own."""
    name = CheckName.CONFIGURATION
    try:
        settings = load_settings(path, environ)
    except ConfigError as error:
        return None, [_wrong(name, line) for line in str(error).splitlines()]
    try:
        settings.require_servable()
    except ConfigError as error:
        found = [_wrong(name, line) for line in str(error).splitlines()]
    else:
        given = len(settings.origins)
        found = [Check(name, Status.OK, f"loads; {given} settings given, the others have their default")]
    found.extend(Check(name, Status.WARN, warning) for warning in settings.warnings)
    return settings, found


def policies(settings: Settings) -> list[Check]:
    """The policies, with everything `relay policy lint` and `relay policy test` would say; and the kill switch."""
    name = CheckName.POLICIES
    path = settings.policy.documents
    if path is None:
        if not settings.policy.instructions:
            return [Check(name, Status.SKIP, "there are no policy documents and no instructions")]
        return [Check(name, Status.OK, f"one instruction text, {len(settings.policy.instructions)} characters")]
    try:
        checked = check_policies(path, regions=settings.upstream.regions)
    except ConfigError as error:
        return [_wrong(name, str(error), path)]
    found = [_wrong(name, line, path) for line in checked.errors]
    found.extend(Check(name, Status.WARN, line, subject=path) for line in checked.warnings)
    if not checked.errors:
        passed = sum(test.passed for test in checked.tests)
        seen = f"{len(checked.documents)} documents, {passed} of their own tests pass"
        found.insert(0, Check(name, Status.OK, seen, subject=path))
    return [*found, *_kill_switch(Path(path))]


def decision_log(settings: Settings) -> list[Check]:
    """Whether the directory of the decision log can be written, by writing to it."""
    name, directory = CheckName.DECISION_LOG, settings.decision_log.directory
    if directory is None:
        return [Check(name, Status.SKIP, "decision_log.directory is not set: no decision log is kept")]
    place = Path(directory)
    # The relay makes a directory that is not there; here only whether it could is found out.
    there = next(each for each in (place, *place.resolve().parents) if each.is_dir())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"relay doctor")
            file.flush()
    except OSError as error:
        advice = "let the user the relay runs as write there, or set decision_log.directory to another place"
        return [Check(name, Status.FAIL, f"{there} cannot be written: {error.strerror}", advice, directory)]
    free = shutil.disk_usage(there).free
    seen = f"{'is' if there == place else 'can be made and'} writable, {free // 1_048_576} MiB free"
    if free < settings.decision_log.file_bytes:
        advice = "make room: a full disk ends sessions under on_failure fail_closed"
        return [Check(name, Status.WARN, f"{seen}, less than one file of the log", advice, directory)]
    return [Check(name, Status.OK, seen, subject=directory)]


def certificate(settings: Settings) -> list[Check]:
    """The certificate of the public listener: fits its key, is in its time."""
    name, http = CheckName.CERTIFICATE, settings.http
    if http.tls_cert_file is None or http.tls_key_file is None:
        return [Check(name, Status.SKIP, "http.tls_cert_file is not set: the relay itself speaks plain http")]
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        # A password that is given and not needed is passed over; without one OpenSSL would ask on the terminal.
        context.load_cert_chain(http.tls_cert_file, http.tls_key_file, password="")
        found = x509.load_pem_x509_certificates(Path(http.tls_cert_file).read_bytes())[0]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        advice = "give a PEM chain and the key that belongs to it, without a passphrase"
        return [Check(name, Status.FAIL, f"cannot be used: {reason}", advice, http.tls_cert_file)]
    return [expiry(name, found.not_valid_after_utc, http.tls_cert_file)]


def expiry(name: CheckName, expires: datetime, subject: str, seen: str = "") -> Check:
    """Judge the end of a certificate's time."""
    days = (expires - datetime.now(UTC)).total_seconds() / 86_400
    text = f"{seen}{', ' if seen else ''}good until {expires:%Y-%m-%d}"
    if days < 0:
        return Check(
            name, Status.FAIL, f"{seen}{', ' if seen else ''}expired on {expires:%Y-%m-%d}", "renew it", subject
        )
    if days < EXPIRES_SOON_DAYS:
        return Check(name, Status.WARN, f"{text}: {days:.0f} days are left", "renew it", subject)
    return Check(name, Status.OK, text, subject=subject)


def administrators(settings: Settings) -> list[Check]:
    """Who can be an administrator, and whether others see what travels to the operations listener."""
    name, admin = CheckName.ADMINISTRATORS, settings.admin
    ways = [
        way for way, there in (("admin.key", admin.key), ("admin_oidc.issuer", settings.admin_oidc.issuer)) if there
    ]
    ways += ["admin keys of the store"] * settings.store_lasts
    seen = f"{', '.join(ways)} let administrators in" if ways else "nobody is an administrator"
    subject = f"{admin.host}:{admin.port}"
    found = []
    if not ways:
        found.append(Check(name, Status.WARN, seen, "set admin.key or admin_oidc.issuer, to use the console", subject))
    if not is_loopback(admin.host):
        told = f"{seen}; plain http beyond this machine: their keys travel unencrypted"
        advice = "keep the port inside (a private network, firewall, NetworkPolicy), or put TLS in front of loopback"
        found.append(Check(name, Status.WARN, told, advice, subject))
        if not admin.hosts:
            advice = "set admin.hosts: names of an attacker's that lead here are then refused"
            found.append(Check(name, Status.WARN, "it may be called by any name", advice, subject))
    return found or [Check(name, Status.OK, f"{seen}, on this machine alone", subject=subject)]


def versions() -> list[Check]:
    """What the relay stands on; a Python that is too old would fail elsewhere with stranger words."""
    found = {"relay": relay.__version__, "Python": platform.python_version()}
    found |= {"OpenSSL (TLS)": ssl.OPENSSL_VERSION.split()[1], **library_versions()}
    seen = ", ".join(f"{name} {number}" for name, number in found.items())
    if sys.version_info < _OLDEST_PYTHON:
        return [Check(CheckName.VERSIONS, Status.FAIL, seen, "run it with Python 3.11 or newer")]
    return [Check(CheckName.VERSIONS, Status.OK, seen)]


def file_limit(settings: Settings, running: tuple[int, int] | None = None) -> list[Check]:
    """Whether as many files may be open as `limits.max_sessions` sessions need.

    `running` is limit and number of open files of a relay in service; else what this process may allow itself is
    judged, as a relay does when it starts.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if running is None else running[0]
    whose = "this process" if running is None else f"the running relay ({running[1]} open)"
    sessions = settings.limits.max_sessions
    least = FILES_OF_THE_RELAY + sessions * SOCKETS_CONNECTED
    enough = FILES_OF_THE_RELAY + sessions * SOCKETS_CONNECTING
    seen = f"{allowed} open files allowed to {whose}; {sessions} sessions need {least} to {enough}"
    advice = "raise it (ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of Docker) or lower limits.max_sessions"
    if allowed == resource.RLIM_INFINITY or allowed >= enough:
        return [Check(CheckName.FILE_LIMIT, Status.OK, seen)]
    return [Check(CheckName.FILE_LIMIT, Status.FAIL if allowed < least else Status.WARN, seen, advice)]


def clock(server_time: datetime, seconds_under_way: float, subject: str) -> Check:
    """Judge this machine's clock by the `Date` of an answer that was `seconds_under_way`."""
    # The header has whole seconds, and was written somewhere during the way.
    apart = abs(time.time() - server_time.timestamp())
    uncertain = 1.0 + seconds_under_way
    if apart <= max(60.0, uncertain):
        return Check(
            CheckName.CLOCK, Status.OK, f"within {max(apart, uncertain):.0f} s of the service's", subject=subject
        )
    seen = f"{apart:.0f} s away from the service's"
    advice = "set the clock (NTP): certificates, ephemeral keys and TURN credentials live by it"
    return Check(CheckName.CLOCK, Status.WARN if apart <= 300.0 else Status.FAIL, seen, advice, subject)  # noqa: PLR2004


def _kill_switch(documents: Path) -> list[Check]:
    switch = KillFile(documents).read()
    if not switch.active:
        return []
    file = (documents if documents.is_dir() else documents.parent) / KILL_FILE
    whom = "everybody" if switch.everybody else ", ".join([*sorted(switch.tenants), *sorted(switch.policies)])
    advice = "delete the file to admit sessions again"
    return [Check(CheckName.POLICIES, Status.WARN, f"the kill switch stops {whom}", advice, str(file))]


def _wrong(name: CheckName, problem: str, subject: str = "") -> Check:
    tool = {CheckName.CONFIGURATION: "see docs/reference/config.md", CheckName.POLICIES: "see relay policy lint"}
    return Check(name, Status.FAIL, problem, tool[name], subject)
