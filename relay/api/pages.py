"""The talk page: a fixed set of files, read once at start and served from memory under a strict content policy."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from relay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "media-src 'self' blob: mediastream:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)
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


def page_routes(pages: Mapping[str, Page]) -> list[web.RouteDef]:
    """A GET route (HEAD included) for each page: nothing else of the file system can be named."""
    return [web.get(path, _handler(page)) for path, page in pages.items()]


def _handler(page: Page) -> Callable[[web.Request], Awaitable[web.Response]]:
    is_html = page.media_type.startswith("text/html")
    headers = {
        "Content-Type": page.media_type,
        "Content-Security-Policy": CONTENT_POLICY,
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
        "Cache-Control": "no-store" if is_html else "no-cache",
    }
    if not is_html:
        headers["ETag"] = page.etag

    async def serve(request: web.Request) -> web.Response:
        if not is_html and page.etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        return web.Response(body=page.content, headers=headers)

    return serve
