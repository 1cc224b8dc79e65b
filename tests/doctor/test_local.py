"""The doctor on this machine and its files, each check in good and in bad health."""

from __future__ import annotations

import datetime as dt
import resource
import time
from dataclasses import replace

import pytest

from relay.config import DecisionLogSettings, HttpSettings, LimitSettings, PolicySettings
from relay.doctor.checks import Status
from relay.doctor.local import (
    certificate,
    clock,
    configuration,
    decision_log,
    file_limit,
    policies,
    versions,
)

CANARY = "canary-0123456789-secret"


def statuses(checks):
    return [check.status for check in checks]


def test_every_problem_of_the_settings_is_a_check_of_its_own(tmp_path):
    path = tmp_path / "relay.yaml"
    path.write_text("http:\n  prt: 1\n  port: x\n")
    settings, found = configuration(str(path), {})
    assert settings is None
    assert statuses(found) == [Status.FAIL, Status.FAIL]
    assert "unknown setting 'http.prt'" in found[0].seen


def test_what_is_missing_to_serve_and_what_is_only_worth_a_warning(tmp_path):
    settings, found = configuration(None, {"RELAY_UPSTREAM_API_KEY": CANARY})
    assert settings is not None
    assert any("upstream.endpoint is not set" in check.seen for check in found if check.status is Status.FAIL)
    environ = {
        "RELAY_UPSTREAM_ENDPOINT": "https://a.example",
        "RELAY_UPSTREAM_DEPLOYMENT": "d",
        "RELAY_UPSTREAM_API_KEY": CANARY,
        "RELAY_CLIENT_KEYS": CANARY,
        "RELAY_INSTRUCTIONS": "Be brief.",
        "RELAY_STORE_URL": f"sqlite:///{tmp_path}/relay.db",
    }
    _, found = configuration(None, environ)
    assert statuses(found) == [Status.OK, Status.WARN, Status.WARN]
    assert CANARY not in repr(found)


def test_policies_good_bad_and_stopped_by_the_kill_switch(settings, tmp_path):
    assert statuses(policies(settings)) == [Status.OK]
    assert statuses(policies(replace(settings, policy=PolicySettings()))) == [Status.SKIP]
    documents = tmp_path / "policies"
    documents.mkdir()
    with_documents = replace(settings, policy=PolicySettings(documents=str(documents)))
    assert "holds no *.yaml" in policies(with_documents)[0].seen
    (documents / "bad.yaml").write_text("apiVersion: relay/v1\nkind: Nonsense\n")
    assert Status.FAIL in statuses(policies(with_documents))
    examples = replace(settings, policy=PolicySettings(documents="examples/policies"))
    assert policies(examples)[0].status is Status.OK
    assert Status.FAIL not in statuses(policies(examples))
    (documents / "KILL").write_text("tenant contoso\n")
    last = policies(with_documents)[-1]
    assert (last.status, last.seen) == (Status.WARN, "the kill switch stops contoso")


def test_the_decision_logs_directory_is_tried_by_writing_and_left_as_it_was(settings, tmp_path, monkeypatch):
    assert statuses(decision_log(settings)) == [Status.SKIP]
    there = replace(settings, decision_log=DecisionLogSettings(directory=str(tmp_path)))
    assert statuses(decision_log(there)) == [Status.OK]
    later = replace(settings, decision_log=DecisionLogSettings(directory=str(tmp_path / "a" / "b")))
    assert statuses(decision_log(later)) == [Status.OK]
    assert not list(tmp_path.iterdir())
    full = replace(settings, decision_log=DecisionLogSettings(directory=str(tmp_path), file_bytes=1 << 62))
    assert "less than one file" in decision_log(full)[0].seen
    [refused] = decision_log(replace(settings, decision_log=DecisionLogSettings(directory="/proc/self")))
    assert refused.status is Status.FAIL
    assert "cannot be written" in refused.seen


def test_the_certificate_of_the_listener(settings, certified):
    def judged(cert, key):
        return certificate(replace(settings, http=HttpSettings(tls_cert_file=cert, tls_key_file=key)))

    assert statuses(certificate(settings)) == [Status.SKIP]
    good, other, soon, over = certified(), certified(), certified(days=5), certified(days=-3)
    assert statuses(judged(good.certificate, good.key)) == [Status.OK]
    assert "days are left" in judged(soon.certificate, soon.key)[0].seen
    assert judged(soon.certificate, soon.key)[0].status is Status.WARN
    [expired] = judged(over.certificate, over.key)
    assert (expired.status, expired.seen.split()[0]) == (Status.FAIL, "expired")
    assert statuses(judged(good.certificate, other.key)) == [Status.FAIL]
    assert statuses(judged(good.key, good.key)) == [Status.FAIL]


def test_versions_are_told():
    [found] = versions()
    for word in ("relay ", "Python ", "aiortc ", "aioice ", "pylibsrtp ", "OpenSSL (TLS)", "OpenSSL (DTLS)"):
        assert word in found.seen
    assert found.status is Status.OK


@pytest.mark.parametrize(
    ("allowed", "status"), [(201, Status.FAIL), (400, Status.WARN), (100_000, Status.OK), (-1, Status.OK)]
)
def test_open_files_are_compared_with_the_sessions_allowed(settings, allowed, status):
    few = replace(settings, limits=LimitSettings(max_sessions=100))
    assert resource.RLIM_INFINITY == -1
    assert statuses(file_limit(few, (allowed, 20))) == [status]
    assert str(resource.getrlimit(resource.RLIMIT_NOFILE)[1]) in file_limit(few)[0].seen


@pytest.mark.parametrize(("off", "status"), [(0, Status.OK), (-90, Status.WARN), (90, Status.WARN), (400, Status.FAIL)])
def test_the_clock_is_compared_with_the_services(off, status):
    there = dt.datetime.fromtimestamp(time.time() + off, dt.UTC)
    assert clock(there, 0.1, "https://a.example").status is status
