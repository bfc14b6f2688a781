"""A suspect behind an HTTP address, which may be slow, wrong or hostile.

One query is ``POST {"images": [[[[0..255]]]]}``, nested lists ``(n, C, H, W)`` of pixel values at the
suspect's input size; the reply is ``{"labels": [n]}`` or ``{"probabilities": [n][K]}``.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NoReturn
from urllib.parse import urlsplit

import torch
from torch import Tensor

from freehold.data.inputs import InputSpec
from freehold.errors import SuspectError, UsageError
from freehold.ownership.suspect import Suspect
from freehold.plugin import Access

_AGAIN = (408, 429, 500, 502, 503, 504)  # worth another try; all else is an answer
_LONGEST_WAIT = 30.0  # seconds between two tries, whatever the server asks for


class EndpointSuspect(Suspect):
    """Asks an address in JSON. No redirect is followed, no proxy used, no more read than ``largest``.

    Args:
        url: ``http://`` or ``https://``; certificates are checked.
        input: its input contract.
        num_classes: how many classes it tells apart.
        access: labels, or probabilities if it gives them.
        timeout: seconds a request may take altogether, connecting included.
        rate: requests a second at most.
        tries: how often a request is sent before giving up.
        largest: bytes a reply may have.
        batch: images a request.
        headers: further ones, such as ``Authorization``; never shown.

    Raises:
        UsageError: not such an address, or limits out of range.
    """

    def __init__(
        self,
        url: str,
        input: InputSpec,
        num_classes: int,
        *,
        access: Access = Access.LABELS,
        timeout: float = 10.0,
        rate: float = 10.0,
        tries: int = 3,
        largest: int = 1 << 22,
        batch: int = 16,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or parts.scheme not in ("http", "https") or parts.username is not None:
            raise UsageError(
                "is no address to ask", where="suspect", fix="http(s)://host/path, credentials in headers"
            )
        if access == Access.WEIGHTS:
            raise UsageError("an address shows no weights", where="access", fix="labels or probabilities")
        if min(timeout, rate) <= 0 or min(tries, largest, batch) < 1:
            raise UsageError("timeout, rate, tries, largest and batch are positive", where="suspect")
        super().__init__(
            f"{parts.scheme}://{parts.netloc}{parts.path}", input, num_classes, access, batch=batch
        )
        self._secure, self._host, self._port = parts.scheme == "https", host, port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout, self._pause, self._tries, self._largest = timeout, 1 / rate, tries, largest
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            **(headers or {}),
        }
        self._next = 0.0

    def _answer(self, images: Tensor) -> Tensor:
        reply = self._parsed(self._send(json.dumps({"images": images.tolist()}).encode()))
        labels, scores = reply.get("labels"), reply.get("probabilities")
        if self.access >= Access.PROBABILITIES or labels is None:
            return self._tensor(scores, float, "probabilities")
        return self._tensor(labels, int, "labels")

    def _tensor(self, values: Any, kind: type, name: str) -> Tensor:
        rows = values if isinstance(values, list) else []
        flat = [v for row in rows for v in (row if isinstance(row, list) else [row])]
        allowed = (int,) if kind is int else (int, float)
        if not flat or not all(type(v) in allowed for v in flat):
            raise SuspectError(f"its reply has no {name}", where=self.name)
        try:
            return torch.tensor(rows, dtype=torch.int64 if kind is int else torch.float64)
        except (ValueError, RuntimeError, OverflowError, TypeError):
            raise SuspectError(f"its {name} are no regular table of numbers", where=self.name) from None

    def _parsed(self, body: bytes) -> dict[str, Any]:
        try:
            reply = json.loads(body, parse_constant=_refuse)
        except (ValueError, RecursionError):
            raise SuspectError("its reply is not JSON of finite numbers", where=self.name) from None
        if not isinstance(reply, dict):
            raise SuspectError("its reply is no JSON object", where=self.name)
        return reply

    def _send(self, body: bytes) -> bytes:
        """The body of a reply of status 200; other tries come after a growing, random wait."""
        fault, wait = "", 0.0
        for attempt in range(self._tries):
            if attempt:  # full jitter: many verifiers do not come back at the same moment
                time.sleep(min(_LONGEST_WAIT, max(wait, random.uniform(0, self._pause * 2**attempt))))
            time.sleep(max(0.0, self._next - time.monotonic()))
            self._next = time.monotonic() + self._pause
            try:
                status, wait, reply = self._request(body)
            except (OSError, http.client.HTTPException) as error:  # refused, cut off, too slow, not HTTP
                fault = f"{type(error).__name__}: {error!s:.100}"
                continue
            if status == 200:
                return reply
            fault = f"status {status}"
            if 300 <= status < 400:
                raise SuspectError(
                    "redirects, which is not followed", where=self.name, fix="name the last address"
                )
            if status not in _AGAIN:
                break
        raise SuspectError(f"no answer in {attempt + 1} tries: {fault}", where=self.name)

    def _request(self, body: bytes) -> tuple[int, float, bytes]:
        """What :meth:`_exchange` gives, if it does so within the timeout.

        Looking up a name has no timeout, every address of a host has one of its own, and a socket's starts
        anew with every byte. So another thread does all of it, and is waited for no longer than the timeout.
        """
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=self._timeout)
        found: Future[tuple[int, float, bytes]] = Future()
        opened: list[socket.socket] = []
        given = (connection, body, time.monotonic() + self._timeout, opened, found)
        threading.Thread(target=self._exchange, args=given, daemon=True).start()
        try:
            return found.result(self._timeout)
        except TimeoutError:
            raise TimeoutError("the reply takes too long") from None
        finally:
            for sock in opened:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        body: bytes,
        deadline: float,
        opened: list[socket.socket],
        found: Future[tuple[int, float, bytes]],
    ) -> None:
        """Puts status, seconds the server asks to wait, and body into ``found``, or what went wrong."""
        try:
            connection.connect()
            opened.append(connection.sock)  # a reply that ends with the connection takes it from there
            if time.monotonic() >= deadline:  # nobody waits any longer: nothing is asked
                return
            connection.request("POST", self._path, body, self._headers)
            response = connection.getresponse()
            reply = response.read(self._largest + 1) if response.status == 200 else b""
            if len(reply) > self._largest:
                raise SuspectError(f"its reply is larger than {self._largest} bytes", where=self.name)
            asked = response.headers.get("Retry-After", "")
            wait = float(asked) if asked.isdecimal() and len(asked) < 6 else 0.0
            found.set_result((response.status, wait, reply))
        except BaseException as error:
            found.set_exception(error)
        finally:
            connection.close()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
