"""The log: one JSON object a line (console form on a terminal), and a last defence against secrets and control bytes.

Nothing secret is handed to the log on purpose; redaction is for the mistake nobody saw. Lines of the standard library's
loggers take the same road, foreign ones from WARNING only: at DEBUG, aiortc logs what passes its data channels.
"""

from __future__ import annotations

import logging
import math
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from relay.config import LogFormat, LogLevel

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED = "[redacted]"
TEXT_MAX_LENGTH = 2_000
_ITEMS_MAX = 200
_DEPTH_MAX = 4

_SECRET_KEYS = frozenset({
    "answer", "api_key", "authorization", "client_secret", "cookie", "instructions", "key", "keys", "offer", "password",
    "prompt", "sdp", "secret", "token", "transcript",
})  # fmt: skip
_SECRET_TEXT = re.compile(
    r"""
    \b ek_ [A-Za-z0-9_-]+                                                     # keys minted by the relay or the service
    | \b sk- [A-Za-z0-9_-]{8,}                                                # keys of OpenAI
    | \b eyJ [A-Za-z0-9_-]{16,} (\. [A-Za-z0-9_-]*)*                          # JSON web tokens
    | \b bearer \s+ [^\s"',;]+
    | \b (api[-_]key | authorization | client_secret) ["']? \s* [:=] \s* ["']? (bearer \s+)? [^\s"',;&]+
    | \b (ice-pwd | ice-ufrag) : \S+
    | \b v=0 (\\r|\r)? (\\n|\n) .*                                            # a session description, to its end
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_META = frozenset({"_record", "_from_structlog"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def configure_logging(level: LogLevel, form: LogFormat, stream: TextIO | None = None) -> None:
    """Send every log line of the process to `stream` (standard output), from `level` up."""
    out = stream or sys.stdout
    console = form is LogFormat.CONSOLE or (form is LogFormat.AUTO and out.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: Processor = structlog.dev.ConsoleRenderer(colors=out.isatty()) if console else _json_line
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger("relay").setLevel(number)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blank what is named or looks like a secret, escape control characters, bound every field (a processor)."""
    return {scrub(key): value if key in _META else _clean(key, value, 0) for key, value in event.items()}


def scrub(text: str) -> str:
    """Return `text` without what looks like a secret, on one line and bounded in length."""
    clean = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", _SECRET_TEXT.sub(REDACTED, text[:TEXT_MAX_LENGTH]))
    return clean if len(text) <= TEXT_MAX_LENGTH else f"{clean}…"


def _clean(key: str, value: Any, depth: int) -> Any:
    if key.lower().replace("-", "_") in _SECRET_KEYS:
        return REDACTED
    if isinstance(value, dict) and depth < _DEPTH_MAX:
        return {scrub(str(k)): _clean(str(k), v, depth + 1) for k, v in list(value.items())[:_ITEMS_MAX]}
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEPTH_MAX:
        return [_clean("", item, depth + 1) for item in list(value)[:_ITEMS_MAX]]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"({len(value)} bytes)"
    is_plain = value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return value if is_plain else scrub(str(value))


_render_json = structlog.processors.JSONRenderer(ensure_ascii=False)


def _json_line(logger: WrappedLogger, method: str, event: EventDict) -> str:
    first = {key: event.pop(key) for key in ("ts", "level", "event") if key in event}
    return str(_render_json(logger, method, {**first, **event}))
