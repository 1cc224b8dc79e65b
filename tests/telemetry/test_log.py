"""The log: one line of JSON a fact, and no secret, content or control byte in it whatever is handed in."""

from __future__ import annotations

import io
import json
import logging
import warnings

import pytest
import structlog

from relay.config import LogFormat, LogLevel
from relay.telemetry import configure_logging
from relay.telemetry.log import TEXT_MAX_LENGTH

CANARY = "canary0123456789"


@pytest.fixture
def log():
    """A function that configures the log into memory, and returns a function that reads its lines."""
    root, relay = logging.getLogger(), logging.getLogger("relay")
    before = (root.handlers[:], root.level, relay.level)

    def configure(level=LogLevel.INFO, form=LogFormat.JSON):
        stream = io.StringIO()
        configure_logging(level, form, stream)
        return lambda: stream.getvalue().splitlines()

    yield configure
    root.handlers[:], root.level, relay.level = before
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def test_a_line_is_a_json_object_with_time_level_and_event_first(log):
    lines = log()
    structlog.get_logger().info("session_opened", session_id="rs_1", seconds=1.5, ready=True, nothing=None)
    [line] = lines()
    entry = json.loads(line)
    assert list(entry)[:3] == ["ts", "level", "event"]
    assert entry["level"] == "info"
    assert (entry["session_id"], entry["seconds"], entry["ready"], entry["nothing"]) == ("rs_1", 1.5, True, None)


@pytest.mark.parametrize(
    "fields",
    [
        {"api_key": CANARY},
        {"Authorization": CANARY},
        {"instructions": CANARY},
        {"sdp": CANARY, "offer": CANARY, "answer": CANARY},
        {"request": {"client-secret": CANARY, "deep": [{"prompt": CANARY}]}},
        {"detail": f"sent ek_{CANARY}"},
        {"detail": f"Authorization: Bearer {CANARY}"},
        {"detail": f"GET /v1/realtime?api-key={CANARY}&model=x"},
        {"detail": f'{{"api-key": "{CANARY}"}}'},
        {"detail": f"bearer  {CANARY}"},
        {"detail": f"eyJ{CANARY}.{CANARY}.{CANARY}"},
        {"detail": f"sk-{CANARY}"},
        {"detail": f"v=0\r\no=- {CANARY}\r\n"},
        {"detail": repr(f"v=0\r\no=- {CANARY}\r\n")},
        {"detail": f"a=ice-pwd:{CANARY}"},
        {"detail": ValueError(f"ek_{CANARY}")},
        {"detail": f"Bearer {CANARY}".encode()},
        {f"ek_{CANARY}": 1, "detail": {f"ek_{CANARY}": 1}},
    ],
)
@pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.CONSOLE])
def test_what_is_named_or_looks_like_a_secret_is_blanked(log, fields, form):
    lines = log(form=form)
    structlog.get_logger().warning("refused", **fields)
    [line] = lines()
    assert CANARY not in line
    assert "refused" in line


@pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.CONSOLE])
def test_no_text_can_break_the_line_or_steer_a_terminal(log, form):
    lines = log(form=form)
    structlog.get_logger().warning("odd\nevent", detail="a\r\nb\x1b[31mc\u2028d\x85e\x00f\ud800", **{"k\ney": 1})
    assert len(lines()) == 1
    [line] = lines()
    assert not any(char in line for char in "\r\x1b\u2028\x85\x00\ud800")
    assert "\\x1b[31m" in line or "\\\\x1b[31m" in line


def test_fields_are_bounded(log):
    lines = log()
    nested = {"a": 1}
    for _ in range(50):
        nested = {"a": nested}
    structlog.get_logger().info("big", text="x" * 1_000_000, many=list(range(100_000)), nested=nested, odd=float("nan"))
    [line] = lines()
    assert len(line) < 3 * TEXT_MAX_LENGTH + 2_000
    assert json.loads(line)["odd"] == "nan"


def test_the_level_holds_for_our_lines_and_foreign_ones_speak_from_warning_only(log):
    lines = log(LogLevel.DEBUG)
    logging.getLogger("aiortc.rtcdatachannel").debug("content %s", CANARY)
    logging.getLogger("aioice.ice").info("candidates")
    structlog.get_logger().debug("ours")
    logging.getLogger("relay.rtc").debug("ours_too")
    logging.getLogger("aiohttp.server").error("Error handling request api-key=%s", CANARY)
    assert [json.loads(line)["event"].split()[0] for line in lines()] == ["ours", "ours_too", "Error"]
    assert CANARY not in "".join(lines())
    lines = log(LogLevel.ERROR)
    structlog.get_logger().warning("quiet")
    logging.getLogger("aiohttp.server").warning("quiet")
    assert lines() == []


def test_exceptions_are_one_line_with_their_secrets_blanked(log):
    lines = log()
    try:
        int(f"header Bearer {CANARY}")
    except ValueError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved")
        structlog.get_logger().exception("failed")
    assert len(lines()) == 2
    for line in lines():
        assert "ValueError" in json.loads(line)["exception"]
        assert CANARY not in line


def test_python_warnings_take_the_same_road(log):
    lines = log()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("deprecated thing", stacklevel=1)
    assert "deprecated thing" in json.loads(lines()[0])["event"]


def test_auto_is_console_on_a_terminal_only(log):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    log()
    configure_logging(LogLevel.INFO, LogFormat.AUTO, terminal)
    structlog.get_logger().info("hello", detail="a\x1b[2Jb")
    assert not terminal.getvalue().startswith("{")
    assert "\x1b[2J" not in terminal.getvalue()
    lines = log(form=LogFormat.AUTO)
    structlog.get_logger().info("hello")
    assert json.loads(lines()[0])["event"] == "hello"
