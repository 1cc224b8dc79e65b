"""API keys and Entra tokens."""

import asyncio
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from azure.core.exceptions import ClientAuthenticationError

from relay.config import UpstreamAuth
from relay.upstream import ServiceError, ServiceRefusal
from relay.upstream.adapters import GaUpstream
from relay.upstream.credentials import (
    REFRESH_SECONDS,
    CredentialError,
    EntraCredential,
    entra_credential,
)
from relay.upstream.http import ServiceHttp

SCOPE = "https://cognitiveservices.azure.com/.default"


@dataclass
class Token:
    token: str
    expires_on: int


@dataclass
class Source:
    """Answers with what is queued; waits while nothing is."""

    answers: asyncio.Queue = field(default_factory=asyncio.Queue)
    asked: list[tuple[str, ...]] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    closed: int = 0

    async def get_token(self, *scopes: str) -> Token:
        self.asked.append(scopes)
        self.started.set()
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def source():
    return Source()


@pytest.fixture
async def entra(source):
    """A credential at second 1000 of a clock that tests move."""
    clock = [1000.0]
    credential = EntraCredential(source, SCOPE, 5.0, now=lambda: clock[0])
    credential.clock = clock
    yield credential
    await credential.close()


async def test_a_token_is_fetched_once_and_kept(entra, source):
    source.answers.put_nowait(Token("first", 5000))
    assert entra.expires_at is None
    for _ in range(3):
        assert await entra.headers() == {"Authorization": "Bearer first"}
    assert entra.expires_at == 5000
    assert source.asked == [(SCOPE,)]


async def test_many_waiters_share_one_fetch(entra, source):
    waiting = [asyncio.create_task(entra.headers()) for _ in range(20)]
    source.answers.put_nowait(Token("shared", 5000))
    assert {headers["Authorization"] for headers in await asyncio.gather(*waiting)} == {"Bearer shared"}
    assert len(source.asked) == 1


async def test_a_waiter_who_leaves_does_not_cancel_the_fetch_of_others(entra, source):
    leaver, stayer = asyncio.create_task(entra.headers()), asyncio.create_task(entra.headers())
    await source.started.wait()
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    source.answers.put_nowait(Token("kept", 5000))
    assert await stayer == {"Authorization": "Bearer kept"}
    assert len(source.asked) == 1


async def test_shortly_before_its_end_a_token_is_replaced_beside_its_use(entra, source):
    source.answers.put_nowait(Token("old", 5000))
    await entra.headers()
    entra.clock[0] = 5000 - REFRESH_SECONDS + 1
    assert await entra.headers() == {"Authorization": "Bearer old"}
    source.answers.put_nowait(Token("new", 9000))
    await asyncio.wait({task for task in asyncio.all_tasks() if task.get_name() == "entra-token"})
    assert await entra.headers() == {"Authorization": "Bearer new"}
    assert len(source.asked) == 2


async def test_a_failed_refresh_keeps_the_old_token_while_it_lives(entra, source):
    source.answers.put_nowait(Token("old", 5000))
    await entra.headers()
    entra.clock[0] = 4990 - REFRESH_SECONDS + 100
    source.answers.put_nowait(ClientAuthenticationError("AADSTS1: no"))
    assert await entra.headers() == {"Authorization": "Bearer old"}
    await asyncio.wait({task for task in asyncio.all_tasks() if task.get_name() == "entra-token"})
    entra.clock[0] = 4999
    source.answers.put_nowait(ClientAuthenticationError("AADSTS2: no"))
    with pytest.raises(CredentialError, match="AADSTS2"):
        await entra.headers()


async def test_a_refusal_names_the_cause_and_no_secret(entra, source):
    source.answers.put_nowait(
        ClientAuthenticationError("AADSTS7000215: Invalid client secret 'hunter2' for tenant contoso. AADSTS7000215")
    )
    with pytest.raises(CredentialError) as caught:
        await entra.headers()
    assert caught.value.refusal is ServiceRefusal.UNAUTHORIZED
    assert "(ClientAuthenticationError, AADSTS7000215)" in caught.value.detail
    assert SCOPE in caught.value.detail
    assert "hunter2" not in caught.value.detail
    assert "contoso" not in caught.value.detail


async def test_after_a_failure_the_next_request_tries_again(entra, source):
    source.answers.put_nowait(RuntimeError("odd"))
    source.answers.put_nowait(Token("second", 5000))
    with pytest.raises(CredentialError, match="RuntimeError"):
        await entra.headers()
    assert await entra.headers() == {"Authorization": "Bearer second"}


async def test_a_silent_entra_is_a_timeout(source):
    credential = EntraCredential(source, SCOPE, 0.02)
    with pytest.raises(CredentialError) as caught:
        await credential.headers()
    assert caught.value.refusal is ServiceRefusal.TIMEOUT


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "ünicode"])
async def test_a_token_that_fits_no_header(entra, source, token):
    source.answers.put_nowait(Token(token, 5000))
    with pytest.raises(CredentialError, match="fits no header"):
        await entra.headers()


async def test_closing_frees_waiters_and_the_source(entra, source):
    waiting = asyncio.create_task(entra.headers())
    await source.started.wait()
    await entra.close()
    with pytest.raises(CredentialError, match="stopping"):
        await waiting
    assert source.closed == 1
    with pytest.raises(CredentialError, match="stopping"):
        await entra.headers()
    assert len(source.asked) == 1


async def test_the_token_is_what_the_service_sees(service, entra, source):
    source.answers.put_nowait(Token("entra-token", 5000))
    service.will(200, {"value": "ek_1"})
    upstream = GaUpstream(f"{service.url}/openai/v1/realtime", entra, ServiceHttp(5.0))
    await upstream.mint({"type": "realtime"})
    assert service.asked[0]["authorization"] == "Bearer entra-token"
    assert "api-key" not in service.asked[0].names
    await upstream.close()
    assert source.closed == 1


async def test_without_a_token_the_service_is_not_asked(service, entra, source):
    source.answers.put_nowait(ClientAuthenticationError("AADSTS700016"))
    upstream = GaUpstream(f"{service.url}/openai/v1/realtime", entra, ServiceHttp(5.0))
    with pytest.raises(ServiceError) as caught:
        await upstream.mint({"type": "realtime"})
    await upstream.close()
    assert (caught.value.refusal, caught.value.operation) == (ServiceRefusal.UNAUTHORIZED, "mint")
    assert "AADSTS700016" in caught.value.detail
    assert service.asked == []


async def test_the_real_class_can_be_made_and_closed(connect):
    credential = entra_credential(SCOPE, 5.0)
    await credential.close()
    await connect(auth=UpstreamAuth.ENTRA, api_key=None).close()


def test_with_a_key_azure_identity_is_never_loaded():
    script = "import sys, relay.upstream; sys.exit(any(name.startswith('azure') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
