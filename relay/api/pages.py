"""The talk page and the console: fixed sets of files, read once at start and served from memory.

Each comes under a strict content policy. The console's names the one foreign place that it may speak to.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from relay.errors import ConfigError

ContentPolicy = Callable[[], Awaitable[str]]
"""The Content-Security-Policy of the answer that is about to be given."""
SignIn = Callable[[], Awaitable[Mapping[str, str] | None]]
"""What the console needs to sign people in at their provider; None where it cannot."""

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "media-src 'self' blob: mediastream:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)
# What may stand between `://` and the path of an address in a policy: nothing that ends a source or a directive.
_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}
_INDEX = "index.html"
# A directory of the operations listener's own pages: the public one does not serve it.
CONSOLE = "console"
_MAX_BYTES = 4_194_304


@dataclass(frozen=True, slots=True)
class Page:
    """One file: its bytes, its media type and its entity tag (quoted, RFC 9110 section 8.8.3)."""

    content: bytes
    media_type: str
    etag: str


def web_directory() -> Path:
    """Where the page's files are: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "web"
    return installed if installed.is_dir() else package.parent / "web"


def load_pages(directory: Path) -> dict[str, Page]:
    """Every servable file of a directory by its URL path; the index also at `/`. Raises ConfigError."""
    pages: dict[str, Page] = {}
    total = 0
    for file in sorted(directory.rglob("*")):
        media_type = _TYPES.get(file.suffix)
        if media_type is None or not file.is_file() or CONSOLE in file.relative_to(directory).parts:
            continue
        content = file.read_bytes()
        total += len(content)
        if total > _MAX_BYTES:
            raise ConfigError(f"the talk page's files in {directory} are larger than {_MAX_BYTES} bytes together")
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        pages["/" + file.relative_to(directory).as_posix()] = Page(content, media_type, etag)
    if f"/{_INDEX}" not in pages:
        raise ConfigError(f"the talk page is missing: no {_INDEX} in {directory}; install the package again")
    pages["/"] = pages[f"/{_INDEX}"]
    return pages


async def talk_policy() -> str:
    """The talk page's."""
    return CONTENT_POLICY


def console_policy(sign_in: SignIn) -> ContentPolicy:
    """The console's: no markup is made of text, and the provider's token endpoint may be asked, once it is known."""

    async def policy() -> str:
        told = await sign_in()
        provider = "" if told is None else origin_of(told["token_endpoint"])
        connect = f"'self' {provider}" if provider else "'self'"
        return (
            f"default-src 'none'; script-src 'self'; style-src 'self'; connect-src {connect}; "
            "img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'; "
            "require-trusted-types-for 'script'; trusted-types 'none'"
        )

    return policy


def origin_of(url: str) -> str:
    """Scheme, host and port of an address; "" for what has none, or none that can stand in a policy."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https"} or not _HOST.fullmatch(parts.netloc):
        return ""
    return f"{parts.scheme}://{parts.netloc}"


def page_routes(
    pages: Mapping[str, Page], content_policy: ContentPolicy = talk_policy, microphone: str = "(self)"
) -> list[web.RouteDef]:
    """A GET route (HEAD included) for each page: nothing else of the file system can be named.

    `microphone` says who on these pages may use it, in the words of a Permissions-Policy.
    """
    return [web.get(path, _handler(page, content_policy, microphone)) for path, page in pages.items()]


def _handler(
    page: Page, content_policy: ContentPolicy, microphone: str
) -> Callable[[web.Request], Awaitable[web.Response]]:
    is_html = page.media_type.startswith("text/html")
    headers = {
        "Content-Type": page.media_type,
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": f"microphone={microphone}, camera=(), geolocation=()",
        "Cache-Control": "no-store" if is_html else "no-cache",
    }
    if not is_html:
        headers["ETag"] = page.etag

    async def serve(request: web.Request) -> web.Response:
        answered = {**headers, "Content-Security-Policy": await content_policy()}
        if not is_html and page.etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=answered)
        return web.Response(body=page.content, headers=answered)

    return serve
