"""A real server on this machine that plays every kind of neighbour."""

from __future__ import annotations

import http.server
import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from neighbour_kit import serving
from ownership_kit import SPEC, trigger_key

from freehold.errors import SuspectError, UsageError
from freehold.ownership.base import verify
from freehold.ownership.endpoint import EndpointSuspect
from freehold.ownership.observation import Decision
from freehold.ownership.suspect import suspect
from freehold.plugin import Access

IMAGES = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    with serving() as running:
        yield running


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


def test_the_wait_before_another_try_is_drawn_below_a_bound_that_doubles(server, monkeypatch):
    drawn, slept = [], []

    def draw(low, high):
        drawn.append((low, high))
        return 100.0 * len(drawn) + high  # to be told from the waits that keep to the rate

    monkeypatch.setattr(random, "uniform", draw)
    monkeypatch.setattr("freehold.ownership.endpoint._LONGEST_WAIT", 1000.0)
    monkeypatch.setattr("freehold.ownership.endpoint.time.sleep", slept.append)
    with pytest.raises(SuspectError, match="no answer in 4 tries"):
        ask(server, "down", tries=4, rate=2.0).labels(IMAGES)
    assert drawn == [(0, 1.0), (0, 2.0), (0, 4.0)]
    assert [wait for wait in slept if wait > 10] == [101.0, 202.0, 304.0]


def test_no_wait_is_longer_than_half_a_minute(server, monkeypatch):
    slept = []
    monkeypatch.setattr(random, "uniform", lambda low, high: 1e6)
    monkeypatch.setattr("freehold.ownership.endpoint.time.sleep", slept.append)
    with pytest.raises(SuspectError):
        ask(server, "down", tries=2).labels(IMAGES)
    assert max(slept) == 30.0


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


def exchanges_end() -> bool:
    going, until = threading.enumerate(), time.monotonic() + 2
    going = [one for one in going if one.name.endswith("(_exchange)")]
    for one in going:
        one.join(max(0.0, until - time.monotonic()))
    return not any(one.is_alive() for one in going)


def test_a_reply_that_drips_is_cut_off_after_the_timeout(server):
    with pytest.raises(SuspectError, match="TimeoutError: the reply takes too long"):
        ask(server, "dripping", timeout=0.3, tries=1).labels(IMAGES)
    assert exchanges_end()


def test_a_host_that_never_answers_the_tls_handshake_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url, began = f"https://127.0.0.1:{silent.getsockname()[1]}/x", time.monotonic()
        asked = suspect(url, input=SPEC, num_classes=10, timeout=0.3, tries=1)
        with pytest.raises(SuspectError, match="no answer in 1 tries: TimeoutError"):
            asked.labels(IMAGES)
        assert 0.25 < time.monotonic() - began < 2
        key = trigger_key()
        verdict = verify(asked, key, commitment=key.commitment)
    assert verdict.decision == Decision.INCONCLUSIVE and verdict.p_value == 1


def test_the_timeout_bounds_looking_up_the_host_and_connecting_to_it(server, monkeypatch):
    found, real = threading.Event(), socket.getaddrinfo

    def slowly(*arguments, **options):
        found.wait(3)
        return real(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    began = time.monotonic()
    with pytest.raises(SuspectError, match="TimeoutError: the reply takes too long"):
        ask(server, "labels", timeout=0.3, tries=1).labels(IMAGES)
    assert time.monotonic() - began < 2
    found.set()  # now it connects, and asks nothing any more
    assert exchanges_end() and not server.seen


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
