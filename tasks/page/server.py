"""The page of a live source, served to browsers while the program runs.

Loopback unless told otherwise. On any other address every request needs the token that is part of the printed URL. On
loopback the Host header must be a loopback name, so that a page of another site cannot read this one through a name of
its own (DNS rebinding).
"""

import ipaddress
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from preprocess.common.errors import UserError
from tasks.page.data import timeline_data
from tasks.page.page import page_html
from tasks.timeline import Timeline

SHOWN = 120.0  # seconds of the past in view
EMPTY = {"times": [], "classes": [], "curves": [], "fused": [], "streams": {}}
LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}


class LiveState(Protocol):
    """What a live program lets a page see, at any moment and from any thread."""

    name: str

    def timeline(self) -> Timeline | None:
        """The answers of the last minutes; None before the first."""

    def still(self) -> bytes | None:
        """The last picture, a JPEG; None before the first."""


@contextmanager
def serve(state: LiveState, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve the page in threads of their own; yields its URL. `port` 0 is any free one.

    Raises UserError if nothing can listen there.
    """
    token = None if _is_loopback(host) else secrets.token_urlsafe(16)
    handler = type("Handler", (_Handler,), {"state": state, "token": token})
    try:
        server = ThreadingHTTPServer((host, port), handler)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"the page cannot be served on {host}:{port} ({error}): choose another --host or --port"
        ) from error
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}/" + (f"?token={token}" if token else "")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: LiveState
    token: str | None

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if not self._allowed(parse_qs(address.query)):
            self.send_error(HTTPStatus.FORBIDDEN)
        elif address.path == "/":
            page = page_html(live_data(self.state), title=f"{self.state.name}, live")
            self._send("text/html; charset=utf-8", page.encode())
        elif address.path == "/data.json":
            self._send("application/json", json.dumps(live_data(self.state)).encode())
        elif address.path == "/frame.jpg" and (still := self.state.still()):
            self._send("image/jpeg", still)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _allowed(self, query: dict[str, list[str]]) -> bool:
        if self.token is not None:
            return secrets.compare_digest(query.get("token", [""])[0].encode(), self.token.encode())
        return self.headers.get("Host", "").rpartition(":")[0] in LOOPBACK

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),  # the token is part of the address
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: the terminal shows answers."""


def live_data(state: LiveState) -> dict:
    """What the page shows now."""
    timeline = state.timeline()
    return {
        "name": f"{state.name}, live",
        "seconds": timeline.seconds if timeline else 0.0,
        "why": {},
        "timeline": timeline_data(timeline) if timeline else EMPTY,
        "events": [],
        "known": [],
        "stills": {"times": [], "frames": None, "flow": None, "mel": None},
        "source": None,
        "live": True,
        "length": SHOWN,
    }


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
