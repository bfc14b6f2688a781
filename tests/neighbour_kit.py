"""A real server on this machine that plays every kind of neighbour."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator

import torch


class Neighbour(http.server.BaseHTTPRequestHandler):
    """Behaves as its path says."""

    seen: list[tuple[str, float, dict[str, str]]]

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        self.server.seen.append((self.command + self.path, time.monotonic(), dict(self.headers)))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        images = torch.tensor(json.loads(body)["images"]) if body else torch.zeros(0)
        number = len(self.server.seen)
        getattr(self, self.path.strip("/").split("?")[0])(images, number)

    def reply(self, data: object, status: int = 200, **headers: str) -> None:
        text = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def labels(self, images, number):
        self.reply({"labels": (images.sum((1, 2, 3)) % 10).tolist()})

    def scores(self, images, number):
        best = torch.nn.functional.one_hot(images.sum((1, 2, 3)) % 10, 10)
        self.reply({"probabilities": (0.9 * best + 0.01).tolist()})

    def flaky(self, images, number):
        self.reply({}, 503) if number % 3 else self.labels(images, number)

    def down(self, images, number):
        self.reply({}, 503)

    def wait(self, images, number):
        self.labels(images, number) if number > 1 else self.reply({}, 429, Retry_After="1")

    def denied(self, images, number):
        self.reply({}, 403)

    def slow(self, images, number):
        time.sleep(0.6)

    def dripping(self, images, number):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        for _ in range(40):
            self.wfile.write(b" ")
            self.wfile.flush()
            time.sleep(0.1)

    def dripping_head(self, images, number):
        for _ in range(40):
            self.wfile.write(b"H")
            self.wfile.flush()
            time.sleep(0.1)

    def huge(self, images, number):
        self.send_response(200)
        self.end_headers()
        for _ in range(64):
            self.wfile.write(b"[" * (1 << 16))

    def away(self, images, number):
        self.reply({}, 307, Location="http://127.0.0.1:1/labels")

    def home(self, images, number):
        self.reply({}, 302, Location="/labels")

    def garbage(self, images, number):
        self.wfile.write(b"no http at all\r\n\r\n")

    def hangs_up(self, images, number):
        self.connection.close()

    def nan(self, images, number):
        self.reply(b'{"probabilities": [' + b",".join([b"[NaN" + b",0" * 9 + b"]"] * len(images)) + b"]}")

    def infinite(self, images, number):
        self.reply(b'{"probabilities": [' + b",".join([b"[1e999" + b",0" * 9 + b"]"] * len(images)) + b"]}")

    def enormous(self, images, number):
        self.reply(b'{"labels": [' + b",".join([b"9" * 400] * len(images)) + b"]}")

    def nested(self, images, number):
        self.reply(b'{"labels": ' + b"[" * 100_000)

    def html(self, images, number):
        self.reply(b"<html>")

    def listing(self, images, number):
        self.reply([1, 2])

    def empty(self, images, number):
        self.reply({"labels": []})

    def short(self, images, number):
        self.reply({"labels": [1] * (len(images) - 1)})

    def words(self, images, number):
        self.reply({"labels": ["cat"] * len(images)})

    def yes(self, images, number):
        self.reply({"labels": [True] * len(images)})

    def ragged(self, images, number):
        self.reply({"probabilities": [[0.1] * (3 + i) for i in range(len(images))]})

    def beyond(self, images, number):
        self.reply({"labels": [10] * len(images)})

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(neighbour: type[Neighbour] = Neighbour) -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), neighbour)
    server.seen = []
    server.handle_error = lambda *args: None  # clients that hang up are meant to
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
