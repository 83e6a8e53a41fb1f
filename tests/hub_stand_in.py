"""A local server that answers as the Hugging Face Hub does to an upload, and keeps what it was sent."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_ofTheTests"


class StandIn(ThreadingHTTPServer):
    """Takes uploads with `TOKEN`; refuses others as the Hub does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.repositories: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.large_from = 10**9  # bytes; such files go to the large-file storage, as the Hub asks for
        self.stored: dict[str, bytes] = {}  # there, by SHA-256
        self.is_full = False  # that storage
        self.tokens: set[str | None] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        self._send(404, {"error": "not found"})

    def do_POST(self) -> None:
        body = self._body()
        token = self.headers.get("Authorization")
        self.server.tokens.add(token)
        if token != f"Bearer {TOKEN}":
            return self._send(401, {"error": "Invalid credentials in Authorization header"})
        if self.path == "/api/repos/create":
            self.server.repositories.append(json.loads(body))
            return self._send(200, {"url": f"{self.server.address}/user/name"})
        if self.path.endswith("/preupload/main"):
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["size"] >= self.server.large_from else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return self._send(200, {"files": modes})
        if self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                known | {"actions": {"upload": {"href": f"{self.server.address}/storage/{known['oid']}"}}}
                for known in json.loads(body)["objects"]
            ]
            return self._send(200, {"transfer": "basic", "objects": objects})
        if self.path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                if line["key"] == "lfsFile":
                    self.server.files[line["value"]["path"]] = self.server.stored[line["value"]["oid"]]
            oid = "0" * 40
            return self._send(200, {"commitOid": oid, "commitUrl": f"{self.server.address}/user/name/commit/{oid}"})
        self._send(200, {})

    def do_PUT(self) -> None:
        body = self._body()
        if self.server.is_full:
            return self._send(403, {"error": "storage limit reached"})
        self.server.stored[self.path.removeprefix("/storage/")] = body
        self._send(200, {})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Print nothing."""


@contextmanager
def hub() -> Iterator[StandIn]:
    """A stand-in that answers until the block ends."""
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
