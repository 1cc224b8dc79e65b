"""How the text of one setting becomes a checked value, and the type that keeps secrets out of print.

A parser takes text and returns the value or raises ValueError with words for an operator. Parsers of secrets never
quote what they were given.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

E = TypeVar("E", bound=StrEnum)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

INSTRUCTIONS_MAX_BYTES = 65_536
CLIENT_KEY_MIN_LENGTH = 16
_SECRET_MAX_LENGTH = 4_096
# A credential is looked for where its beginning says.
_OTHER_CREDENTIALS = ("ek_", "rk_", "eyJ")
_QUOTED_MAX_LENGTH = 60
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?\Z")
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
_NAME = re.compile(r"[A-Za-z0-9._:/-]{1,128}\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_SERVICE_PATH = re.compile(r"/(openai|v1|realtime|realtimertc)(/|\Z)")


class Secret:
    """A value that no print, log or traceback of locals shows; `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself, for a request header and nothing else."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)


def quoted(text: str) -> str:
    """`text` as it may stand in a message: escaped and shortened."""
    return repr(text if len(text) <= _QUOTED_MAX_LENGTH else f"{text[: _QUOTED_MAX_LENGTH - 1]}…")


def one_of(choices: type[E]) -> Callable[[str], E]:
    """Return a parser for the members of a closed vocabulary."""

    def parse(text: str) -> E:
        try:
            return choices(text)
        except ValueError:
            allowed = ", ".join(choices)
            raise ValueError(f"{quoted(text)} is not one of: {allowed}") from None

    return parse


def boolean(text: str) -> bool:
    """Parse `true` or `false`; YAML's other spellings (on, yes) are refused: people read them differently."""
    if text not in {"true", "false"}:
        raise ValueError(f"{quoted(text)} is neither true nor false")
    return text == "true"


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a parser for a whole number between `low` and `high`."""

    def parse(text: str) -> int:
        if re.fullmatch(r"-?[0-9]{1,12}", text, re.ASCII) is None:
            hint = (
                " (set by Kubernetes: use enableServiceLinks: false)" if text.startswith(("tcp://", "udp://")) else ""
            )
            raise ValueError(f"{quoted(text)} is not a whole number{hint}")
        number = int(text)
        if not low <= number <= high:
            raise ValueError(f"{number} is outside {low} to {high}")
        return number

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Return a parser for a duration in seconds between `low` and `high`."""

    def parse(text: str) -> float:
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text, re.ASCII) is None:
            raise ValueError(f"{quoted(text)} is not a number of seconds")
        number = float(text)
        if not low <= number <= high:
            raise ValueError(f"{quoted(text)} is outside {low:g} to {high:g} seconds")
        return number

    return parse


def share(text: str) -> float:
    """Parse a share between 0 and 1."""
    if re.fullmatch(r"[01](\.[0-9]{1,6})?", text, re.ASCII) is None or float(text) > 1:
        raise ValueError(f"{quoted(text)} is not a share between 0 and 1, such as 0.85")
    return float(text)


def amount(text: str) -> float:
    """Parse US dollars."""
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text, re.ASCII) is None:
        raise ValueError(f"{quoted(text)} is not an amount of US dollars such as 25 or 0.5")
    return float(text)


def name(text: str) -> str:
    """Parse a deployment or model name."""
    if _NAME.match(text) is None:
        raise ValueError(f"{quoted(text)} is not a name (letters, digits, . _ : / -)")
    return text


def slug(text: str) -> str:
    """Parse a region or version such as `swedencentral` or `2025-04-01-preview`."""
    if _SLUG.match(text) is None:
        raise ValueError(f"{quoted(text)} may hold only small letters, digits and hyphens")
    return text


def scope(text: str) -> str:
    """Parse an OAuth scope, a URI."""
    if not text.isascii() or not text.isprintable() or " " in text or "/" not in text:
        raise ValueError(f"{quoted(text)} is not a scope such as https://cognitiveservices.azure.com/.default")
    return text


def host(text: str) -> str:
    """Parse an address or a host name to listen on."""
    if not is_address(text) and _HOST.match(text) is None:
        raise ValueError(f"{quoted(text)} is neither an IP address nor a host name")
    return text


def address(text: str) -> str:
    """Parse a literal IP address to bind."""
    if not is_address(text):
        raise ValueError(f"{quoted(text)} is not an IP address")
    return text


def network(text: str) -> Network:
    """Parse an IP address or a CIDR block."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{quoted(text)} is not an IP address or CIDR block ({error})") from None


def origin(text: str) -> str:
    """Parse a browser origin, `scheme://host[:port]` in the form browsers send, or `*`."""
    if text == "*":
        return text
    parts = _split(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or text != f"{parts.scheme}://{parts.netloc}":
        raise ValueError(
            f"{quoted(text)} is not an origin such as https://app.example.com (no path, no slash at the end)"
        )
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{quoted(text)} is not what browsers send: a name of other letters as xn--…, no space")
    if text != text.lower() or "@" in parts.netloc or (parts.scheme, _port(text)) in {("http", 80), ("https", 443)}:
        raise ValueError(f"{quoted(text)} is not what browsers send: small letters, no user, no default port")
    return text


def base_url(text: str) -> str:
    """Parse a base URL of the service, return it without the slash at its end; plain http is judged elsewhere."""
    parts = _split(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{quoted(_without_query(text))} is not a URL such as https://my-resource.openai.azure.com")
    _port(text)
    if parts.query or parts.fragment or "@" in parts.netloc or re.search(r"\s", text):
        raise ValueError("must be a base URL: no user, query, fragment or space")
    if _SERVICE_PATH.search(parts.path):
        raise ValueError(f"leave out {quoted(parts.path)}: the relay adds the paths of the protocol itself")
    return text.rstrip("/")


def readable_file(text: str) -> str:
    """Check that a file exists and can be read; return its path."""
    try:
        with Path(text).open("rb"):
            return text
    except OSError as error:
        raise ValueError(f"{quoted(text)} cannot be read: {error.strerror}") from None


def policy_path(text: str) -> str:
    """Check that a file or directory of policies exists and can be read; return its path."""
    try:
        if Path(text).is_dir():
            next(Path(text).iterdir(), None)
            return text
    except OSError as error:
        raise ValueError(f"{quoted(text)} cannot be read: {error.strerror}") from None
    return readable_file(text)


def directory(text: str) -> str:
    """Parse the path of a directory that need not exist yet."""
    try:
        usable = "\0" not in text and (Path(text).is_dir() or not Path(text).exists())
    except OSError as error:
        raise ValueError(f"{quoted(text)} cannot be used: {error.strerror}") from None
    if not usable:
        raise ValueError(f"{quoted(text)} is not a directory")
    return text


def secret(text: str) -> Secret:
    """Parse a credential that fits a request header: printable ASCII, no space."""
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > _SECRET_MAX_LENGTH:
        raise ValueError("holds a space, a line break or a character that is not ASCII; check how it was pasted")
    return Secret(text)


def store_url(text: str) -> Secret:
    """Parse the URL of a database; it may hold a password and is quoted nowhere."""
    if not text.startswith(("sqlite://", "postgresql://", "postgres://")):
        raise ValueError("begins with neither sqlite:// nor postgresql://")
    if text.startswith("sqlite://") and text != "sqlite://" and not text.startswith("sqlite:///"):
        raise ValueError("sqlite takes a path: sqlite:////var/lib/relay/relay.db (four slashes for an absolute one)")
    return secret(text)


def redis_url(text: str) -> Secret:
    """Parse the URL of a Redis or Valkey server; it may hold a password and is quoted nowhere."""
    if not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("begins with none of redis://, rediss://, unix://")
    return secret(text)


def client_key(text: str) -> Secret:
    """Parse a key with which clients may mint."""
    if len(text) < CLIENT_KEY_MIN_LENGTH:
        raise ValueError(
            f"a key is shorter than {CLIENT_KEY_MIN_LENGTH} characters; make one with: openssl rand -base64 32"
        )
    if text.startswith(_OTHER_CREDENTIALS):
        raise ValueError("a key starts with ek_, rk_ or eyJ, as the relay's own keys and signed tokens do")
    return secret(text)


def instructions(text: str) -> str:
    """Parse policy text: at most 64 KiB of UTF-8, line ends as LF, none at the end, no control characters."""
    text = text.replace("\r\n", "\n").rstrip("\n")
    if _CONTROL.search(text):
        raise ValueError("the instructions hold a control character")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        # Bytes of the environment that are no text stand in it as lone surrogates.
        raise ValueError("the instructions are not UTF-8") from None
    if size > INSTRUCTIONS_MAX_BYTES:
        raise ValueError(f"the instructions are longer than {INSTRUCTIONS_MAX_BYTES} bytes")
    return text


def is_address(text: str) -> bool:
    """Whether `text` is a literal IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(url_or_host: str) -> bool:
    """Whether a URL's or listener's host can only be this machine."""
    hostname = (urlsplit(url_or_host).hostname or "") if "://" in url_or_host else url_or_host
    return hostname == "localhost" or (is_address(hostname) and ipaddress.ip_address(hostname).is_loopback)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        # The library's own words would quote the URL, and a pasted one can hold a credential.
        raise ValueError("is not a URL") from None


def _port(url: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError:
        raise ValueError("has a port that is not a number from 1 to 65535") from None


def _without_query(url: str) -> str:
    # A pasted URL can carry a key in its query or user part: neither is repeated.
    return re.sub(r"//[^/@]*@", "//…@", re.split(r"[?#]", url, maxsplit=1)[0])
