"""A web server on this host, with whatever manners a test wants.

with serving({"/a.txt": b"..."}, ranges=False) as web:
    jmr.files(f"{web.url}/a.txt")
    web.asked      # [("HEAD", "/a.txt", None), ("GET", "/a.txt", "bytes=0-99")]
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Web:
    """What is served, and how; what was asked for."""

    pages: dict[str, bytes]
    #: Whether a part can be had, a size is told, and what a version is known by.
    ranges: bool = True
    lengths: bool = True
    etags: bool = True
    #: "name:password" that has to be given; what a query must hold.
    login: str = ""
    query: str = ""
    url: str = ""
    #: Method, path and range of each request.
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)


class _Answer(BaseHTTPRequestHandler):
    web: Web

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        web, where = self.web, urlsplit(self.path)
        part = self.headers.get("Range")
        web.asked.append((self.command, where.path, part))
        login = "Basic " + base64.b64encode(web.login.encode()).decode()
        if (web.login and self.headers.get("Authorization") != login) or web.query not in where.query:
            self.send_error(403, "Keep out")
        elif where.path.endswith("/"):
            links = [f'<a href="{name}">.</a>' for name in sorted(web.pages) if name.startswith(where.path)]
            self._send("".join(links).encode(), None)
        elif where.path not in web.pages:
            self.send_error(404, "Not found")
        else:
            self._send(web.pages[where.path], part if web.ranges else None)

    def _send(self, page: bytes, part: str | None) -> None:
        body = page
        if part is not None:
            first, _, last = part.removeprefix("bytes=").partition("-")
            body = page[int(first) : int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(body) - 1}/{len(page)}")
        else:
            self.send_response(200)
        if self.web.lengths:
            self.send_header("Content-Length", str(len(body)))
        if self.web.etags:
            self.send_header("ETag", f'"{hashlib.sha256(page).hexdigest()[:16]}"')
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(ConnectionError):  # who asked has seen enough
                self.wfile.write(body)


@contextlib.contextmanager
def serving(pages: dict[str, bytes], **manners: object) -> Iterator[Web]:
    """Serve these pages while the block runs."""
    web = Web(pages, **manners)  # type: ignore[arg-type]
    answer = type("Answer", (_Answer,), {"web": web})
    with ThreadingHTTPServer(("127.0.0.1", 0), answer) as server:
        web.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            thread.join()
