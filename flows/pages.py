"""A few pages over loopback HTTP, for as long as somebody is asked to read them.

A link to a file is dead on a page that came over HTTP: browsers do not follow it. So who asks holds the pages' bytes (a
later night may write others) and serves them under an address that cannot be guessed; nothing in them can run.
"""

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@contextmanager
def serving(files: Mapping[str, Path]) -> Iterator[dict[str, str]]:
    """Label → address of each file, as it is now; HTML as such, anything else as plain text."""
    prefix = f"/{secrets.token_urlsafe(16)}"
    kept = {f"{prefix}/{place.name}": place.read_bytes() for place in files.values()}

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds for a request to come

        def do_GET(self) -> None:
            page = kept.get(self.path)
            kind = "html" if self.path.endswith(".html") else "plain"
            self.send_response(404 if page is None else 200)
            self.send_header("Content-Type", f"text/{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(page or b"")))
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page or b"")

        def log_message(self, *_: object) -> None:
            """What is read is nobody's business."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}{prefix}"
            yield {label: f"{address}/{place.name}" for label, place in files.items()}
        finally:
            server.shutdown()
