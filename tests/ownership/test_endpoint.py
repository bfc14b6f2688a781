"""A real server on this machine that plays every kind of neighbour."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from ownership_kit import SPEC, trigger_key

from freehold.errors import SuspectError, UsageError
from freehold.ownership.base import verify
from freehold.ownership.endpoint import EndpointSuspect
from freehold.ownership.observation import Decision
from freehold.ownership.suspect import suspect
from freehold.plugin import Access

IMAGES = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


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


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Neighbour)
    server.seen = []
    server.handle_error = lambda *args: None  # clients that hang up are meant to
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ask(server: http.server.ThreadingHTTPServer, path: str, **options) -> EndpointSuspect:
    url = f"http://127.0.0.1:{server.server_address[1]}/{path}"
    given = {"timeout": 5.0, "rate": 1000.0, **options}
    return suspect(url, input=SPEC, num_classes=10, **given)


EXPECTED = IMAGES.long().sum((1, 2, 3)) % 10


def test_labels_and_probabilities_come_back(server):
    assert torch.equal(ask(server, "labels?v=1", batch=2).labels(IMAGES), EXPECTED)
    assert len(server.seen) == 3 and server.seen[0][0] == "POST/labels?v=1"
    asked = ask(server, "scores", access=Access.PROBABILITIES)
    assert torch.equal(asked.probabilities(IMAGES).argmax(1), EXPECTED) and asked.queries == 5
    assert torch.equal(ask(server, "scores").labels(IMAGES), EXPECTED)


def test_a_flaky_server_is_asked_again_with_growing_random_waits(server):
    assert torch.equal(ask(server, "flaky").labels(IMAGES), EXPECTED) and len(server.seen) == 3
    with pytest.raises(SuspectError, match="no answer in 3 tries: status 503"):
        ask(server, "down").labels(IMAGES)
    assert len(server.seen) == 6


def test_it_waits_as_long_as_the_server_asks(server):
    assert torch.equal(ask(server, "wait").labels(IMAGES), EXPECTED)
    assert server.seen[1][1] - server.seen[0][1] >= 0.95


def test_a_refusal_is_not_asked_again(server):
    with pytest.raises(SuspectError, match="status 403"):
        ask(server, "denied").labels(IMAGES)
    assert len(server.seen) == 1


def test_requests_keep_to_the_rate(server):
    ask(server, "labels", batch=1, rate=20.0).labels(IMAGES)
    times = [moment for _, moment, _ in server.seen]
    assert times[-1] - times[0] >= 4 / 20 * 0.95


@pytest.mark.parametrize("path", ["slow", "dripping", "dripping_head"])
def test_no_exchange_takes_longer_than_its_timeout(server, path):
    began = time.monotonic()
    with pytest.raises(SuspectError, match="no answer in 2 tries"):
        ask(server, path, timeout=0.25, tries=2).labels(IMAGES)
    assert time.monotonic() - began < 3.0


def test_no_more_is_read_than_allowed(server):
    with pytest.raises(SuspectError, match="larger than 1000 bytes"):
        ask(server, "huge", largest=1000).labels(IMAGES)


@pytest.mark.parametrize("path", ["away", "home"])
def test_redirects_are_not_followed(server, path):
    with pytest.raises(SuspectError, match="redirects"):
        ask(server, path).labels(IMAGES)
    assert len(server.seen) == 1


ODD = ["garbage", "hangs_up", "nan", "infinite", "enormous", "nested", "html", "listing", "empty", "short"]
ODD += ["words", "yes", "ragged", "beyond"]


@pytest.mark.parametrize("path", ODD)
def test_what_is_no_answer_is_refused_and_never_matches(server, path):
    with pytest.raises(SuspectError):
        ask(server, path, tries=1).labels(IMAGES)
    key = trigger_key()
    verdict = verify(ask(server, path, tries=1), key, commitment=key.commitment)
    assert verdict.decision == Decision.INCONCLUSIVE and verdict.p_value == 1


def test_nobody_at_home(server):
    server.server_close()
    with pytest.raises(SuspectError, match="no answer in 2 tries: ConnectionRefusedError"):
        ask(server, "labels", tries=2).labels(IMAGES)


def test_credentials_are_sent_and_never_shown(server):
    asked = ask(server, "labels", headers={"Authorization": "Bearer s3cret"})
    asked.labels(IMAGES)
    assert server.seen[0][2]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(asked) + asked.name
    with pytest.raises(SuspectError) as caught:
        ask(server, "denied", headers={"Authorization": "Bearer s3cret"}).labels(IMAGES)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "http://",
        "http://user:pw@host/",
        "http://[::1",
        "file:///etc/passwd",
        "http://h:99999/",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UsageError, match="no address") as caught:
        suspect(url, input=SPEC, num_classes=10)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    "bad", [{"timeout": 0}, {"rate": -1}, {"tries": 0}, {"largest": 0}, {"access": Access.WEIGHTS}]
)
def test_limits_out_of_range_are_refused(bad):
    with pytest.raises(UsageError):
        suspect("http://localhost/", input=SPEC, num_classes=10, **bad)
