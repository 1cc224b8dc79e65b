"""A real Firefox over WebDriver BiDi, with the few habits of Playwright's pages that our tests use.

Playwright drives a Firefox of its own only, so that Debian's is spoken to by its own protocol:
https://w3c.github.io/webdriver-bidi/
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import aiohttp

from relay.rtc.advertise import local_addresses
from support import needs

_PREFERENCES = {
    # The permission is given; which device it is for, the page's script below decides.
    "media.navigator.permission.disabled": True,
    "media.navigator.streams.fake": True,
    "media.autoplay.default": 0,
    "media.autoplay.blocking_policy": 0,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
}
# Firefox's fake microphone hums without a pause; this one plays a file again and again.
_MICROPHONE = """() => {
    const file = Uint8Array.from(atob("%s"), (each) => each.charCodeAt(0));
    if (!navigator.mediaDevices) return;
    navigator.mediaDevices.getUserMedia = async () => {
        const context = new AudioContext();
        const buffer = await context.decodeAudioData(file.buffer.slice());
        const source = new AudioBufferSourceNode(context, { buffer, loop: true });
        const microphone = context.createMediaStreamDestination();
        source.connect(microphone);
        source.start();
        return microphone.stream;
    };
}"""
# As Playwright does: what gives a function is called.
_EVALUATE = """async () => {
    const found = (%s);
    return JSON.stringify((await (typeof found === "function" ? found(%s) : found)) ?? null);
}"""
_LISTENING = re.compile(rb"WebDriver BiDi listening on (ws://\S+)")
_STEP_SECONDS = 0.1


def own_address() -> str:
    """An address of this machine that is not loopback: Firefox sends no media to 127.0.0.1."""
    found = [each.host for each in local_addresses() if each.is_usable]
    if not found:
        needs.lacking("this machine has no address but loopback, and Firefox sends no media there")
    return found[0]


class FirefoxPage:
    """One tab; `complaints` are the errors that its pages did not catch or wrote to the console."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.complaints: list[str] = []
        self._ws = ws
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._context = ""
        self._numbers = itertools.count(1)

    async def open(self, speech: bytes) -> None:
        """Begin the session; the microphone of every page plays `speech`, a WAV file."""
        await self._ask("session.new", capabilities={})
        self._context = (await self._ask("browsingContext.getTree"))["contexts"][0]["context"]
        await self._ask("session.subscribe", events=["log.entryAdded"])
        script = _MICROPHONE % base64.b64encode(speech).decode()
        await self._ask("script.addPreloadScript", functionDeclaration=script)

    async def read(self) -> None:
        """Take what Firefox says until it is gone."""
        async for message in self._ws:
            told = json.loads(message.data)
            if told.get("method") == "log.entryAdded":
                if told["params"]["level"] == "error":
                    self.complaints.append(told["params"]["text"])
            elif (asked := self._asked.pop(told.get("id"), None)) is not None and not asked.done():
                asked.set_result(told)

    async def add_init_script(self, script: str) -> None:
        """Run a script in every page from now on, before its own."""
        await self._ask("script.addPreloadScript", functionDeclaration=f"() => {{{script}}}")

    async def goto(self, url: str) -> None:
        await self._ask("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def reload(self) -> None:
        await self._ask("browsingContext.reload", context=self._context, wait="complete")

    async def evaluate(self, expression: str, argument: object = None) -> Any:
        """The value of an expression, or of the function it gives, called with `argument`; awaited, as JSON."""
        given = await self._ask(
            "script.callFunction",
            functionDeclaration=_EVALUATE % (expression, json.dumps(argument)),
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
        )
        assert given["type"] == "success", given["exceptionDetails"]["text"]
        return json.loads(given["result"]["value"])

    async def click(self, selector: str) -> None:
        await self.wait_for(f"document.querySelector({json.dumps(selector)}) !== null")
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    async def wait_for(self, expression: str, timeout: float = 30.0) -> Any:
        """Wait until an expression is true, and give its value."""
        async with asyncio.timeout(timeout):
            while not (found := await self.evaluate(expression)):  # noqa: ASYNC110 - it happens in the browser
                await asyncio.sleep(_STEP_SECONDS)
        return found

    async def _ask(self, method: str, **params: object) -> dict[str, Any]:
        number = next(self._numbers)
        self._asked[number] = answered = asyncio.get_running_loop().create_future()
        await self._ws.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(60):
            told = await answered
        assert told["type"] == "success", told
        return told["result"]


@contextlib.asynccontextmanager
async def firefox(speech: Path) -> AsyncIterator[FirefoxPage]:
    """Run Firefox with a fresh profile and a sound card; its microphone plays `speech` again and again."""
    with tempfile.TemporaryDirectory(prefix="firefox-", ignore_cleanup_errors=True) as directory:
        profile = Path(directory)
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _PREFERENCES.items())
        (profile / "user.js").write_text("".join(lines))
        options = ("--headless", "--no-remote", "--profile", directory, "--remote-debugging-port", "0")
        command = (needs.program("firefox-esr", "firefox"), *options)
        async with _sound_card(directory) as environment, _process(*command, env=environment) as browser:
            address = await _listening(browser)
            async with (
                _running(_read_away(browser)),
                aiohttp.ClientSession() as http,
                http.ws_connect(f"{address}/session", max_msg_size=0) as ws,
            ):
                page = FirefoxPage(ws)
                async with _running(page.read()):
                    await page.open(speech.read_bytes())  # noqa: ASYNC240 - a small file
                    yield page


@contextlib.asynccontextmanager
async def _sound_card(directory: str) -> AsyncIterator[dict[str, str]]:
    """A PulseAudio whose loudspeaker is nowhere, as the environment that names it: no AudioContext runs without one."""
    environment = os.environ | {"HOME": directory, "XDG_RUNTIME_DIR": directory}
    command = (needs.program("pulseaudio"), "-n", "--daemonize=no", "--exit-idle-time=-1")
    modules = ("--load=module-null-sink", "--load=module-native-protocol-unix")
    async with _process(*command, *modules, env=environment) as card, _running(_read_away(card)):
        async with asyncio.timeout(20):
            while not (Path(directory) / "pulse" / "native").exists():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(_STEP_SECONDS)
        yield environment


async def _listening(browser: asyncio.subprocess.Process) -> str:
    """Where Firefox listens, once it does."""
    assert browser.stderr is not None
    async with asyncio.timeout(60):
        while (found := _LISTENING.search(line := await browser.stderr.readline())) is None:
            assert line, "firefox ended before it could be spoken to"
    return found[1].decode()


@contextlib.asynccontextmanager
async def _process(*command: str, env: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    quiet, told = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    # In a group of its own: Firefox has many processes, and one that hangs must not outlive the test.
    process = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=told, env=env, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@contextlib.asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _read_away(process: asyncio.subprocess.Process) -> None:
    """A program that cannot write its warnings stands still."""
    assert process.stderr is not None
    while await process.stderr.read(4096):
        pass
