"""Pickles: what is listed, what counts as unsafe, and that nothing in them ever runs."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import Small

from freehold.errors import ArtifactError
from freehold.evidence.scan import apart, scan
from freehold.evidence.scan.pickles import ALLOWED, scan_pickle
from freehold.evidence.scan.report import Notes


@pytest.fixture
def stays_outside(monkeypatch):
    """No child process: only what is listed is tested."""
    monkeypatch.setattr("freehold.evidence.scan.look.load_apart", lambda *_: None)


class Runs:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def looked(path, content, name="m.pkl"):
    (path / name).write_bytes(content)
    return scan(path / name)


def test_a_state_dict_is_safe_and_its_tensors_are_counted_in_a_child(tmp_path):
    state = {**Small().state_dict(), "odd": torch.tensor([float("nan"), float("inf"), 1.0])}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "m.pt")
    found = scan(tmp_path / "m.pt")
    assert found.format == "torch archive" and found.verdict == "DOUBTFUL"
    assert (found.nan, found.infinite) == (1, 1)
    assert found.tensors == len(state) and found.kinds == {"float32": len(state) - 2, "int64": 2}
    assert "torch._utils._rebuild_tensor_v2" in found.globals
    assert found.sha256 == hashlib.sha256((tmp_path / "m.pt").read_bytes()).hexdigest()


def test_files_from_before_archives_are_listed_as_well(tmp_path, stays_outside):
    state = Small().state_dict()
    torch.save(state, tmp_path / "m.pth", _use_new_zipfile_serialization=False)
    found = scan(tmp_path / "m.pth")
    assert (found.format, found.verdict) == ("legacy torch file", "SAFE")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pth", _use_new_zipfile_serialization=False)
    assert scan(tmp_path / "m.pth").verdict == "UNSAFE"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [os.system, eval, subprocess.Popen, getattr, __import__])
def test_what_would_run_is_unsafe_and_is_named(tmp_path, protocol, function):
    ran = tmp_path / "ran"
    found = looked(tmp_path, pickle.dumps([Runs(function, f"touch {ran}")], protocol))
    assert found.verdict == "UNSAFE" and found.tensors is None
    name = "posix.system" if function is os.system else function.__name__
    assert any(asked.endswith(name) for asked in found.globals) and not ran.exists()


def test_a_whole_module_is_unsafe(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pt")
    assert scan(tmp_path / "m.pt").verdict == "UNSAFE"


# Written by hand, so that they do what no pickler would write.
HIDDEN = {
    "behind another": pickle.dumps({}) + pickle.dumps(Runs(os.system, "true")),
    "behind a tensor file's magic": pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    + pickle.dumps(Runs(eval, "1"), 2),
    "name from the memo": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x940h\x00h\x01\x93.",
    "name built at run time": b"\x80\x04\x8c\x05posix\x8c\x06system\x85\x93.",
    "name duplicated": b"\x80\x04\x8c\x02os22\x93.",
    "name under a mark": b"\x80\x04\x8c\x02os(\x8c\x06system\x931.",
    "allowed name, another module": b"\x80\x04\x8c\x04Size\x94\x8c\x05posix\x94h\x00\x93.",
    "allowed module, dotted name": b"\x80\x04\x8c\x05torch\x8c\x0cSize.__new__\x93.",
    "space in a name": b"ctorch Size\n\n.",
    "old instance": b"(S'true'\niposix\nsystem\n.",
    "object": b"(cposix\nsystem\nS'true'\no.",
    "broken off after the deed": b"cposix\nsystem\n(S'true'\ntR\xff",
    "extension": b"\x80\x02\x82\x01.",
    "persistent name as text": b"Pabc\n.",
    "out-of-band buffer": b"\x80\x05\x97.",
    "keyword arguments": b"\x80\x04\x8c\x05torch\x8c\x06Tensor\x93)}\x92.",
}


@pytest.mark.parametrize("how", HIDDEN)
def test_tricks_are_unsafe(tmp_path, how):
    assert looked(tmp_path, HIDDEN[how]).verdict == "UNSAFE"


def test_plain_data_is_safe(tmp_path, stays_outside):
    data = {
        "a": [1, 2.5, None, True, "text", b"bytes", (1, 2)],
        "b": {"c"},
        "d": OrderedDict(x=1),
        "l": 1 << 70,
    }
    for protocol in range(2, 6):
        without = {**data, "b": []} if protocol < 4 else data
        assert looked(tmp_path, pickle.dumps(without, protocol)).verdict == "SAFE"


def test_what_torch_accepts_is_no_less_than_what_the_list_allows():
    from torch._weights_only_unpickler import _get_allowed_globals

    assert {name.replace(" ", ".") for name in ALLOWED} <= set(_get_allowed_globals())


@pytest.mark.parametrize(
    "content", [b"", b"no pickle", b"\x80\x02", b"PK\3\4", b"PK", b"\x80\x02X\xff\xff\xff\x7fabc."]
)
def test_broken_files_are_refused(tmp_path, content):
    with pytest.raises(ArtifactError):
        looked(tmp_path, content, "m.pt")


def archive(*entries, compress=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compress) as zipped:
        for name, data in entries:
            zipped.writestr(name, data)
    return out.getvalue()


FINE = ("m/data.pkl", pickle.dumps({}, 2))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives(tmp_path, stays_outside):
    def verdict(*entries, **how):
        return looked(tmp_path, archive(*entries, **how), "m.pt").verdict

    bad = pickle.dumps(Runs(os.system, "true"), 2)
    assert verdict(FINE, ("m/version", "3")) == "SAFE"
    assert verdict(FINE, ("m/notes.txt", "3")) == "DOUBTFUL"
    for entry in (
        ("m/other.pkl", bad),
        ("../x", ""),
        ("/x", ""),
        ("m/code/a.py", ""),
        FINE,
        ("m/a\\..\\b", ""),
    ):
        assert verdict(FINE, entry) == "UNSAFE"
    assert verdict(("m/data.pkl", bad)) == "UNSAFE"
    assert verdict(FINE, ("m/data/0", bytes(1 << 20)), compress=zipfile.ZIP_DEFLATED) == "UNSAFE"
    link = zipfile.ZipInfo("m/data/0")
    link.external_attr = 0o120777 << 16
    assert verdict(FINE, (link, "/etc/passwd")) == "UNSAFE"
    with pytest.raises(ArtifactError, match=r"no data\.pkl"):
        verdict(("m/x", ""))


def test_an_index_larger_than_any_models_is_not_read(tmp_path):
    whole = bytearray(archive(FINE))
    end = whole.rfind(b"PK\5\6")
    whole[end + 12 : end + 16] = (200 << 20).to_bytes(4, "little")
    with pytest.raises(ArtifactError, match="an index of"):
        looked(tmp_path, bytes(whole), "m.pt")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_bytes_are_listed_or_refused(data):
    start = data.draw(st.sampled_from([*HIDDEN.values(), pickle.dumps({"a": [1, "b"]}), b""]))
    content = bytearray(start + data.draw(st.binary(max_size=40)))
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ArtifactError):
        scan_pickle(bytes(content), "x", Notes())


def test_the_child_can_reach_no_network_no_process_and_write_no_file(tmp_path):
    inside = Path(apart.__file__).with_name("inside.py")
    code = f"""
import runpy, sys
inside = runpy.run_path({str(inside)!r})
inside["limit"](0)
sys.addaudithook(inside["refuse"])
import socket, subprocess
for attempt in (lambda: socket.create_connection(("127.0.0.1", 9)), lambda: subprocess.run(["true"]),
                lambda: open({str(tmp_path / "x")!r}, "w"), lambda: __import__("os").system("true")):
    try:
        attempt()
        print("reached")
    except PermissionError:
        print("refused")
try:
    bytearray(2 << 30)
    print("reached")
except MemoryError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["refused"] * 5, done.stderr


def test_a_child_that_gives_no_answer_is_a_doubt(tmp_path, monkeypatch):
    torch.save({"a": torch.zeros(2)}, tmp_path / "m.pt")
    for child, said in (
        ("exit 1", "no answer"),
        ("echo '[]'", "torch does not"),
        ("exec sleep 60", "takes more"),
    ):
        (tmp_path / "child").write_text(f"#!/bin/sh\n{child}\n")
        (tmp_path / "child").chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "child"))
        monkeypatch.setattr(apart, "SECONDS", 0.5 if "sleep" in child else 60)
        found = scan(tmp_path / "m.pt")
        assert found.verdict == "DOUBTFUL" and found.tensors is None and said in found.findings[0].what
