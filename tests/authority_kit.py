"""A time-stamp authority on this machine: OpenSSL's, with a root of its own, behind an address."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

CONFIG = """
[req]
distinguished_name = name
[name]
[tsa]
default_tsa = here
[here]
serial = {folder}/serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
[root]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[stamper]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
"""


class Authority:
    """Makes replies; ``root`` is the certificate to trust."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "root.pem"
        folder.mkdir(exist_ok=True)
        (folder / "config").write_text(CONFIG.format(folder=folder))
        (folder / "serial").write_text("01")
        for name in ("root", "stamper"):
            self.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
        self.openssl(
            *("req", "-x509", "-new", "-key", "root.key", "-subj", "/CN=Root", "-days", "3650"),
            *("-config", "config", "-extensions", "root", "-out", "root.pem"),
        )
        self.openssl(
            *("req", "-new", "-key", "stamper.key", "-subj", "/CN=Time", "-config", "config", "-out", "c.csr")
        )
        self.openssl(
            *("x509", "-req", "-in", "c.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial"),
            *("-days", "3650", "-extfile", "config", "-extensions", "stamper", "-out", "stamper.pem"),
        )

    def openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def reply(self, query: bytes) -> bytes:
        (self.folder / "q").write_bytes(query)
        self.openssl(
            *("ts", "-reply", "-config", "config", "-section", "here", "-queryfile", "q"),
            *("-signer", "stamper.pem", "-inkey", "stamper.key", "-out", "r"),
        )
        return (self.folder / "r").read_bytes()

    def about(self, message: bytes) -> bytes:
        (self.folder / "m").write_bytes(message)
        self.openssl("ts", "-query", "-data", "m", "-sha256", "-cert", "-out", "q")
        return self.reply((self.folder / "q").read_bytes())


@contextlib.contextmanager
def serving(authority: Authority) -> Iterator[str]:
    """Its address; ``/garbage``, ``/refuse`` and ``/stale`` behave badly."""

    class Desk(BaseHTTPRequestHandler):
        stale = b""

        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/timestamp-query"
            body = authority.reply(query) if self.path in ("/", "/stale") else b"garbage"
            if self.path == "/stale":
                body = Desk.stale = Desk.stale or body
            self.send_response(500 if self.path == "/refuse" else 200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Desk)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
