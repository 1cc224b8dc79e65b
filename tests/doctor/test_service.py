"""The doctor on the way to the service: names, connections, proxies, certificates, clock, a real mint."""

from __future__ import annotations

import datetime as dt
import socket
from dataclasses import replace

import pytest

from relay.config import PoolMember, Secret, UpstreamProtocol, UpstreamSettings
from relay.doctor.checks import CheckName, Status
from relay.doctor.net import Certificate
from relay.doctor.service import _judged, credentials, service, service_urls
from relay.simulator import Simulator, SimulatorSettings

SECONDS = 3.0


def by_name(checks):
    return {check.name: check for check in checks}


def statuses(checks):
    return {check.name.value: check.status.value for check in checks}


@pytest.fixture
def closed():
    with socket.create_server(("127.0.0.1", 0)) as tried:
        return tried.getsockname()[1]


async def test_a_service_that_is_well(https, certified, monkeypatch):
    pair = certified()
    monkeypatch.setenv("SSL_CERT_FILE", pair.certificate)
    found = await service(f"https://localhost:{await https(pair)}", SECONDS)
    assert statuses(found) == {"service_dns": "ok", "service_tcp": "ok", "service_tls": "ok", "clock": "ok"}
    assert "(this machine)" in by_name(found)[CheckName.SERVICE_DNS].seen
    assert "issued by Contoso Root" in by_name(found)[CheckName.SERVICE_TLS].seen


async def test_a_certificate_that_ends_soon(https, certified, monkeypatch):
    pair = certified(days=5)
    monkeypatch.setenv("SSL_CERT_FILE", pair.certificate)
    found = by_name(await service(f"https://127.0.0.1:{await https(pair)}", SECONDS))
    assert found[CheckName.SERVICE_TLS].status is Status.WARN
    assert "days are left" in found[CheckName.SERVICE_TLS].seen


@pytest.mark.parametrize(("days", "trusted", "words"), [(-1, True, "expired"), (90, False, "self-signed certificate")])
async def test_a_certificate_that_is_refused_is_shown_with_its_issuer(
    https, certified, monkeypatch, days, trusted, words
):
    pair = certified(days, "Contoso Proxy")
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", pair.certificate)
    found = by_name(await service(f"https://127.0.0.1:{await https(pair)}", SECONDS))
    assert found[CheckName.SERVICE_TLS].status is Status.FAIL
    assert words in found[CheckName.SERVICE_TLS].seen
    assert "issued by Contoso Proxy" in found[CheckName.SERVICE_TLS].seen
    assert found[CheckName.CLOCK].seen == "not reached"


def test_an_authority_that_does_not_issue_for_azure_is_taken_for_a_proxy():
    # The rule alone: nobody here can answer for that name.
    far = dt.datetime.now(dt.UTC) + dt.timedelta(days=200)
    host, url = "my-resource.openai.azure.com", "https://my-resource.openai.azure.com"
    shown = _judged(Certificate("Contoso Proxy CA", host, far), host, url)
    assert (shown.status, "a proxy between here and the service opens TLS" in shown.seen) == (Status.WARN, True)
    assert _judged(Certificate("Microsoft Azure RSA TLS Issuing CA 04", host, far), host, url).status is Status.OK


async def test_what_speaks_no_tls(https):
    found = by_name(await service(f"https://127.0.0.1:{await https()}", 0.5))
    assert found[CheckName.SERVICE_TLS].status is Status.FAIL
    assert "speaks no TLS" in found[CheckName.SERVICE_TLS].advice


async def test_a_closed_port_and_a_name_of_nobody(closed):
    found = await service(f"https://127.0.0.1:{closed}", SECONDS)
    assert statuses(found) == {
        "service_dns": "ok", "service_tcp": "fail", "service_tls": "skip", "clock": "skip",
    }  # fmt: skip
    assert "Private Endpoint" in by_name(found)[CheckName.SERVICE_TCP].advice
    found = await service("https://nobody.invalid", SECONDS)
    assert list(statuses(found).values()) == ["fail", "skip", "skip", "skip"]


async def test_a_silent_network_has_its_deadline():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        port = silent.getsockname()[1]
        # The first connection is taken by the kernel and never answered: TLS waits, not TCP.
        found = by_name(await service(f"https://127.0.0.1:{port}", 0.3))
    assert "no TLS handshake within 0.3 s" in found[CheckName.SERVICE_TLS].seen


@pytest.mark.parametrize(("offset", "status"), [(0, Status.OK), (120, Status.WARN), (-900, Status.FAIL)])
async def test_the_clock_is_read_from_the_services_answer(https, offset, status):
    found = by_name(await service(f"http://127.0.0.1:{await https(offset=offset)}", SECONDS))
    assert found[CheckName.CLOCK].status is status
    assert found[CheckName.SERVICE_TLS].status is Status.SKIP


async def test_the_proxy_of_the_environment_is_used_and_its_password_never_shown(https, certified, proxy, monkeypatch):
    pair = certified()
    monkeypatch.setenv("SSL_CERT_FILE", pair.certificate)
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
    port = await https(pair)
    found = await service(f"https://127.0.0.1:{port}", SECONDS)
    assert statuses(found) == {"service_dns": "skip", "service_tcp": "ok", "service_tls": "ok", "clock": "ok"}
    assert proxy.asked == [f"CONNECT 127.0.0.1:{port} HTTP/1.1"]
    assert proxy.credentials == ["user:p@ss"]
    assert f"through the proxy 127.0.0.1:{proxy.port}" in by_name(found)[CheckName.SERVICE_TCP].seen
    assert "p@ss" not in repr(found)
    assert "p%40ss" not in repr(found)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert statuses(await service(f"https://127.0.0.1:{port}", SECONDS))["service_dns"] == "ok"
    assert len(proxy.asked) == 1


@pytest.mark.parametrize(("status", "words"), [(407, "wants credentials"), (403, "answers 403")])
async def test_a_proxy_that_refuses(proxy, monkeypatch, status, words):
    proxy.status = status
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    found = by_name(await service("https://my-resource.openai.azure.com", SECONDS))
    assert found[CheckName.SERVICE_TCP].status is Status.FAIL
    assert words in found[CheckName.SERVICE_TCP].seen
    assert "NO_PROXY" in found[CheckName.SERVICE_TCP].advice


async def test_a_proxy_that_is_closed_or_of_another_kind(closed, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed}")
    found = by_name(await service("https://my-resource.openai.azure.com", SECONDS))
    assert found[CheckName.SERVICE_TCP].status is Status.FAIL
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1080")
    found = by_name(await service("https://my-resource.openai.azure.com", SECONDS))
    assert "socks5" in found[CheckName.SERVICE_TCP].seen


def test_the_preview_has_two_addresses():
    upstream = UpstreamSettings(endpoint="https://a.example", webrtc_endpoint="https://b.example")
    assert service_urls(upstream) == ("https://a.example",)
    preview = replace(upstream, protocol=UpstreamProtocol.AZURE_PREVIEW)
    assert service_urls(preview) == ("https://a.example", "https://b.example")
    assert service_urls(UpstreamSettings()) == ()


@pytest.mark.parametrize("protocol", list(UpstreamProtocol))
async def test_a_credential_is_proved_by_a_mint_and_only_when_asked(settings, protocol):
    async with Simulator(SimulatorSettings()) as simulator:
        known = SimulatorSettings()
        upstream = UpstreamSettings(
            protocol=protocol,
            endpoint=simulator.url,
            webrtc_endpoint=simulator.url,
            deployment=known.deployments[0],
            api_key=Secret(known.api_key),
        )
        settings = replace(settings, upstream=upstream)
        [found] = await credentials(settings, mint=False)
        assert (found.status, "--mint" in found.seen) == (Status.SKIP, True)
        assert simulator.state()["mints"] == []
        [found] = await credentials(settings, mint=True)
        assert found.status is Status.OK, found
        assert len(simulator.state()["mints"]) == 1
        assert simulator.state()["calls"] == []
        wrong = replace(settings, upstream=replace(upstream, api_key=Secret("wrong-key-canary")))
        [found] = await credentials(wrong, mint=True)
        assert (found.status, "api_key" in found.advice) == (Status.FAIL, True)
        assert "canary" not in repr(found)
        wrong = replace(settings, upstream=replace(upstream, deployment="nobody"))
        [found] = await credentials(wrong, mint=True)
        assert (found.status, "upstream.deployment" in found.advice) == (Status.FAIL, True), found


async def test_a_credential_without_a_key_or_a_service(settings, closed):
    nothing = replace(settings, upstream=UpstreamSettings(endpoint=f"http://127.0.0.1:{closed}", deployment="d"))
    [found] = await credentials(nothing, mint=True)
    assert "api_key" in found.seen
    [found] = await credentials(replace(settings, upstream=replace(nothing.upstream, api_key=Secret("k"))), mint=True)
    assert found.status is Status.FAIL


async def test_every_member_of_a_pool_is_looked_at(settings):
    known = SimulatorSettings()
    async with Simulator(known) as one, Simulator(replace(known, api_key="key-of-two")) as two:
        members = (
            PoolMember("one", one.url, api_key=Secret(known.api_key)),
            PoolMember("two", two.url, deployment="nobody", api_key=Secret("key-of-two")),
        )
        upstream = UpstreamSettings(deployment=known.deployments[0], pool=members)
        assert service_urls(upstream) == (one.url, two.url)
        first, second = await credentials(replace(settings, upstream=upstream), mint=True)
        assert (first.subject, first.status) == ("one", Status.OK)
        assert (second.subject, second.status) == ("two", Status.FAIL)
        assert len(one.state()["mints"]) == len(two.state()["mints"]) == 1
