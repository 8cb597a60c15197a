"""A web server of files that knows ranges, counts what it sends, and asks for credentials where it is told to."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


@dataclass
class WebServer:
    """A running server.

    Attributes
    ----------
    sent, requests : bytes of files so far, and requests.
    ranges : whether it gives parts of files.
    status : what it answers to every request, instead of files.
    signature, password : what it asks for, by "?sig=..." or of the user "me".
    """

    url: str
    sent: int = 0
    requests: int = 0
    ranges: bool = True
    status: int = 0
    signature: str = ""
    password: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def allows(self, query: str, authorization: str) -> bool:
        expected = "Basic " + base64.b64encode(f"me:{self.password}".encode()).decode()
        signed = not self.signature or parse_qs(query).get("sig") == [self.signature]
        return signed and (not self.password or authorization == expected)


@contextmanager
def web_server(folder: Path) -> Iterator[WebServer]:
    """Serve the files of a folder on the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_content=False)

        def do_GET(self) -> None:
            self._answer(with_content=True)

        def _answer(self, *, with_content: bool) -> None:
            parts = urlsplit(self.path)
            file = folder / parts.path.lstrip("/")
            status = server.status or (200 if file.is_file() else 404)
            if not server.allows(parts.query, self.headers.get("Authorization", "")):
                status = 403
            content = file.read_bytes() if status == 200 else b""
            size = len(content)
            asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            if asked and status == 200 and server.ranges:
                first, last = asked.groups()
                start = int(first) if first else max(0, size - int(last))
                content = content[start : int(last) + 1 if first and last else size]
                status = 206
                self.send_response(status)
                self.send_header("Content-Range", f"bytes {start}-{start + len(content) - 1}/{size}")
            else:
                self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Accept-Ranges", "bytes" if server.ranges else "none")
            self.end_headers()
            if with_content:
                with server.lock:
                    server.requests += 1
                    server.sent += len(content)
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = WebServer(f"http://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
