"""A web server on 127.0.0.1 with one file, at a plain address and at one as on the hub."""

import hashlib
import select
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mmap import mmap
from typing import Any, NamedTuple

COMMIT = "c" * 40


class Request(NamedTuple):
    """What a client asked for."""

    method: str
    start: int
    token: str | None


class Server(ThreadingHTTPServer):
    """Serves `content` as /data.pkl and as data.pkl of the hub's data set owner/name.

    statuses: answers to the next requests, instead of the file. cuts: after how many bytes the next
    GETs end; with `stall`, they stay open instead. pause: seconds before each 64 KiB. ranges:
    whether parts are served. length: whether the size is told. etag: if not the content's SHA-256.
    storage: address of a server that the hub's GETs are sent to, as for large files.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, content: bytes | mmap) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.statuses: list[int] = []
        self.cuts: list[int] = []
        self.stall = False
        self.pause = 0.0
        self.ranges = True
        self.length = True
        self.etag = ""
        self.storage: str | None = None
        self.requests: list[Request] = []
        self.address = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def starts(self) -> list[int]:
        """From which byte on the file was asked for, by each GET."""
        return [request.start for request in self.requests if request.method == "GET"]

    def handle_error(self, *_: Any) -> None:
        """A client that was killed is no error of the server."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        server, wanted = self.server, self.headers.get("Range", "bytes=0-")
        hub = self.path == "/datasets/owner/name/resolve/main/data.pkl"
        if not (hub or self.path == "/data.pkl"):
            self._fail(404)  # the hub's client asks for more than files
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        server.requests.append(Request(self.command, start, self.headers.get("Authorization")))
        if server.statuses:
            self._fail(server.statuses.pop(0))
        elif server.ranges and start and start >= len(server.content):
            self._fail(416)
        else:
            self._send(hub, start if server.ranges else 0)

    def _fail(self, status: int) -> None:
        self.send_response(status)
        if self.path.startswith("/datasets/") and status == 404:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, hub: bool, start: int) -> None:
        server, size = self.server, len(self.server.content)
        self.send_response(302 if hub and server.storage else 206 if start else 200)
        if hub:
            self.send_header(
                "ETag", f'"{server.etag or hashlib.sha256(server.content).hexdigest()}"'
            )
            self.send_header("X-Repo-Commit", COMMIT)
            if server.storage:
                self.send_header(
                    "X-Linked-ETag",
                    f'"{server.etag or hashlib.sha256(server.content).hexdigest()}"',
                )
                self.send_header("X-Linked-Size", str(size))
                self.send_header("Location", f"{server.storage}/data.pkl")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if server.length:
            self.send_header("Content-Length", str(size - start))
        self.end_headers()
        if self.command == "GET" and not (hub and server.storage):
            self._send_body(start)

    def _send_body(self, start: int) -> None:
        server = self.server
        end = start + server.cuts.pop(0) if server.cuts else len(server.content)
        for at in range(start, min(end, len(server.content)), 2**16):
            time.sleep(server.pause)
            self.wfile.write(server.content[at : min(at + 2**16, end)])
        if end < len(server.content):
            if server.stall:
                select.select([self.connection], [], [], 300)  # until the client leaves
            time.sleep(0.5)  # what was sent is read before the end comes
