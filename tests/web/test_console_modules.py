"""The pure functions of the console's modules, called in the browser that runs them."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser]

CALLS = (
    ("format.js", "duration", [59.9], "0:59"),
    ("format.js", "duration", [3723], "1:02:03"),
    ("format.js", "duration", [187_200], "2 d 4:00:00"),
    ("format.js", "duration", [None], "–"),  # noqa: RUF001 - the dash of the page
    ("format.js", "dollars", [0.0418], "$0.0418"),
    ("format.js", "dollars", [0], "$0.00"),
    ("format.js", "offset", [127.52], "+2:07.5"),
    ("format.js", "dayOf", [1_795_305_600_000, 1], "2026-11-21"),
    ("live.js", "median", [[3, None, 1]], 2),
    ("live.js", "median", [[5, 1, 3]], 3),
    ("live.js", "median", [[None]], None),
    ("quality.js", "gradeOf", [{"loss": 0.01, "jitter_ms": 20, "rtt_ms": 150}], "good"),
    ("quality.js", "gradeOf", [{"loss": 0.0, "jitter_ms": 21, "rtt_ms": None}], "fair"),
    ("quality.js", "gradeOf", [{"loss": 0.0, "jitter_ms": 1, "rtt_ms": 401}], "poor"),
    ("quality.js", "gradeOf", [{"loss": None}], "unknown"),
    ("linediff.js", "diffLines", ["a\nb\nc", "a\nx\nc"],
     [["same", "a"], ["removed", "b"], ["added", "x"], ["same", "c"]]),
    ("linediff.js", "diffLines", ["a\n" * 3000, "b\n" * 3000], None),
    ("highlight.js", "wordsOf", ["  max: 12  # top"],
     [["", "  "], ["key", "max"], ["", ":"], ["", " "], ["value", "12"], ["", " "], ["comment", " # top"]]),
    ("addresses.js", "addressOf", [["policies", "a b/c"], {"x": "1&2", "y": ""}], "#/policies/a%20b%2Fc?x=1%262"),
    ("signin.js", "challengeOf", ["dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"],
     "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),  # RFC 7636 appendix B
)  # fmt: skip


async def test_what_pure_functions_return(visitor):
    call = "([path, name, given]) => import(path).then((module) => module[name](...given))"
    for module, function, given, expected in CALLS:
        found = await visitor.page.evaluate(call, [f"/console/{module}", function, given])
        assert found == expected, (module, function, given)


@pytest.mark.parametrize("cut", [1, 7, 4096])
async def test_the_stream_is_read_however_it_is_cut(visitor, cut):
    text = 'event: sessions\r\ndata: {"a": "ü"}\r\n\r\n: a comment\n\ndata: [1,\ndata: 2]\n\nevent: half\ndata: 3'
    read = """async ([text, cut]) => {
        const bytes = new TextEncoder().encode(text);
        const parts = [];
        for (let at = 0; at < bytes.length; at += cut) parts.push(bytes.slice(at, at + cut));
        const body = new ReadableStream({ start(to) { parts.forEach((part) => to.enqueue(part)); to.close(); } });
        globalThis.fetch = async () => new Response(body);
        const { events } = await import('/console/api.js');
        const found = [];
        for await (const event of events('/x', new AbortController().signal)) found.push(event);
        return found;
    }"""
    assert await visitor.page.evaluate(read, [text, cut]) == [
        {"event": "sessions", "data": {"a": "ü"}},
        {"event": "message", "data": [1, 2]},
    ]
