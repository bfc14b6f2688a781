"""Every way of going wrong: its exit code, one line on standard error, no traceback, nothing left behind."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from cli_kit import CUTTING, TINY, sets

from freehold.cli.app import main

TRAIN = ["train", *sets("model.uri=convnet", *TINY)]


def check(ended, code: int, *said: str) -> None:
    assert ended.code == code, ended.err
    assert ended.out == ""
    last = ended.err.splitlines()[-1]
    assert last.startswith("error: ")
    for words in said:
        assert words.lower() in last.lower()
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "trian"),
        (["train", "--lr", "3"], "--lr"),
        (["evaluate"], "run"),
        (["evaluate", "x", "--max-source-drop", "little"], "--max-source-drop"),
        (["list", "mapp"], "did you mean 'map'?"),
        (["demo", "--out"], "--out"),
    ],
)
def test_wrong_use(freehold, arguments, said):
    check(freehold(*arguments), 64, said)


def test_no_command_takes_a_secret_among_its_arguments():
    """Every user of a machine can read them; a passphrase comes from a file, the environment or a prompt."""
    import typer

    from freehold.cli.app import app

    def options(command):
        yield from command.params
        for inner in getattr(command, "commands", {}).values():
            yield from options(inner)

    names = {name for option in options(typer.main.get_command(app)) for name in option.opts}
    secret = {name for name in names if any(word in name for word in ("phrase", "password", "secret"))}
    assert secret == {"--passphrase-file", "--new-passphrase-file", "--signing-passphrase-file"}


@pytest.mark.parametrize(
    ("override", "code", "said"),
    [
        ("train.lrr=1", 78, "train.lrr: unknown key (did you mean 'lr'?)"),
        ("train.lr=fast", 78, "train.lr"),
        ("method.name=mapp", 78, "did you mean 'map'?"),
        ("model.uri=convnett", 64, "convnet"),
        ("model.uri=timm:resnet1888", 64, "resnet18"),
        ("model.uri=nowhere.at_all:net", 64, "nowhere"),
        ("model.weights=gone.safetensors", 66, "gone.safetensors"),
        ("data.authorized=digit", 64, "data.authorized"),
        ("data.authorized=npz:gone.npz", 66, "gone.npz"),
        ("data.authorized=folder:gone", 66, "gone"),
        ("data.unauthorized=digits | rotat=3", 64, "rotate"),
        ("data.classes=7", 65, "data.authorized"),
        ("train.device=cuda:9", 64, "device"),
        ("train.trackers=['tensorbord']", 64, "tensorbord"),
    ],
)
def test_wrong_values(freehold, override, code, said, tmp_path):
    check(freehold(*TRAIN, *sets(override), "--out", tmp_path / "a"), code, said)
    assert not any(tmp_path.iterdir())


def test_a_tracker_that_is_not_installed(freehold, tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    ended = freehold(*TRAIN, *sets("train.trackers=['tensorboard']"), "--out", tmp_path / "a")
    check(ended, 69, "trackers: tensorboard")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["method.layers=features.0"], "passport: layers: the chosen layers hold 32 bits, too few"),
        (["method.layers=last-0"], "passport: layers: the chosen layers hold 0 bits, too few"),
        (["method.layers=feature.0"], "passport: layers: 'feature.0' matches no layer that a norm follows"),
        (["model.uri=vgg11", "data.image_size=32"], "passport: model: no norm with a scale and a shift"),
    ],
    ids=lambda value: str(value[0]),
)
def test_models_that_cannot_bear_a_passport(freehold, tmp_path, monkeypatch, changes, said):
    monkeypatch.setenv("FREEHOLD_PASSPHRASE", "open-sesame-2718")
    marking = sets("model.uri=convnet", *TINY, "method.name=passport", "method.start=untrained", *changes)
    check(freehold("watermark", *marking, "--out", tmp_path / "a"), 65, said)
    assert not any(tmp_path.iterdir())


def test_configuration_files(freehold, tmp_path):
    check(freehold("train", "--config", tmp_path / "no.toml"), 66, "no.toml")
    (tmp_path / "c.toml").write_text("seed = 1\n[model\n")
    check(freehold("train", "--config", tmp_path / "c.toml"), 78, "c.toml", "line 2")
    check(freehold("protect", *TRAIN[1:], "--out", tmp_path / "a"), 78, "method.name")
    check(
        freehold("protect", *TRAIN[1:], *sets(*CUTTING), "--out", tmp_path / "a"),
        78,
        "model.weights",
        "freehold train",
    )
    assert {p.name for p in tmp_path.iterdir()} == {"c.toml"}


IMAGES, LABELS = np.zeros((30, 8, 8), np.uint8), np.arange(30) % 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_images": IMAGES.astype(np.float64) + np.nan}, "train_images"),
        ({"train_images": IMAGES.astype(np.int64) + 300}, "train_images"),
        ({"train_images": IMAGES[:, 0]}, "train_images"),
        ({"train_images": IMAGES[:20]}, "20"),
        ({"train_labels": LABELS - 1}, "train_labels"),
        ({"train_labels": LABELS * 0}, "class"),
        ({"train_labels": LABELS + 0.5}, "train_labels"),
        ({"train_images": IMAGES[:0], "train_labels": LABELS[:0]}, "train"),
        ({"test_labels": None}, "test_labels"),
    ],
)
def test_data_that_cannot_be_used(freehold, tmp_path, changes, said):
    arrays = {
        "train_images": IMAGES,
        "train_labels": LABELS,
        "test_images": IMAGES,
        "test_labels": LABELS,
        **changes,
    }
    np.savez(tmp_path / "d.npz", **{key: value for key, value in arrays.items() if value is not None})
    found = freehold(
        *TRAIN,
        *sets(f"data.authorized=npz:{tmp_path / 'd.npz'}", "data.unauthorized=[]"),
        "--out",
        tmp_path / "a",
    )
    check(found, 65, "data.authorized", said)
    assert {p.name for p in tmp_path.iterdir()} == {"d.npz"}


def test_domains_of_different_classes(freehold, tmp_path):
    np.savez(
        tmp_path / "d.npz", train_images=IMAGES, train_labels=LABELS, test_images=IMAGES, test_labels=LABELS
    )
    path = f"npz:{tmp_path / 'd.npz'}"
    check(
        freehold(*TRAIN, *sets(f"data.unauthorized={path}"), "--out", tmp_path / "a"),
        65,
        "10 classes against 3",
    )


def test_weights(freehold, source, tmp_path):
    whole = (source / "model.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole[:-1])
    check(
        freehold(*TRAIN, *sets(f"model.weights={tmp_path}/w.safetensors"), "--out", tmp_path / "a"),
        65,
        "w.safetensors",
    )
    (tmp_path / "w.safetensors").write_bytes(whole)
    arguments = sets(f"model.weights={tmp_path}/w.safetensors", "model.uri=resnet20")
    check(freehold(*TRAIN, *arguments, "--out", tmp_path / "a"), 65, "do not fit")
    torch.save({}, tmp_path / "w.pt")
    check(
        freehold(*TRAIN, *sets(f"model.weights={tmp_path}/w.pt"), "--out", tmp_path / "a"), 64, "allow_pickle"
    )
    assert not (tmp_path / "a").exists()


def test_runs_that_are_not_what_they_should_be(freehold, source, bound, tmp_path):
    check(
        freehold(*TRAIN, *sets("train.lr=0.5"), "--out", source), 73, "train.lr is 0.003 there and 0.5 here"
    )
    check(freehold("evaluate", tmp_path / "no"), 66, "no")
    check(freehold("evaluate", tmp_path), 65, "manifest")
    check(freehold("evaluate", source), 64, "freehold protect")
    check(freehold("evaluate", bound, "--on", "digitz"), 64, "digitz")
    check(freehold("evaluate", bound, "--page", bound / "new.html"), 64, "new.html")
    check(freehold("evaluate", bound, "--max-source-drop", "1000"), 78, "max_source_drop")
    run = shutil.copytree(bound, tmp_path / "run")
    data = bytearray((run / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (run / "model.safetensors").write_bytes(data)
    check(freehold("evaluate", run), 65, "model.safetensors", "altered")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("mine")
    check(freehold(*TRAIN, "--out", tmp_path / "used"), 73, "holds no run")


def test_places_that_cannot_be_written(freehold, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    check(freehold(*TRAIN, "--out", tmp_path / "file"), 73, "file")
    check(freehold(*TRAIN, "--out", tmp_path / "file" / "a"), 73, "cannot write")
    real = os.fsync

    for fails_at in (1, 3, 6):
        count = 0

        def full(handle: int, fails_at: int = fails_at) -> None:
            nonlocal count
            count += 1
            if count >= fails_at:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(handle)

        monkeypatch.setattr(os, "fsync", full)
        check(freehold(*TRAIN, "--out", tmp_path / str(fails_at)), 73, "No space left on device")
        assert not (tmp_path / str(fails_at)).exists()
        assert not any(p.name.endswith((".tmp", ".lock")) for p in tmp_path.rglob("*"))
    monkeypatch.setattr(os, "fsync", real)
    assert freehold(*TRAIN, "--out", tmp_path / "6").code == 0  # what was left of it goes on


def test_the_unexpected_is_one_line_and_a_traceback_on_request(freehold, tmp_path, monkeypatch):
    def crash(*_):
        raise ZeroDivisionError("many\nlines")

    monkeypatch.setattr("freehold.jobs.source.assemble", crash)
    check(freehold(*TRAIN, "--out", tmp_path / "a"), 70, "ZeroDivisionError: many lines", "--debug")
    for arguments in ([*TRAIN, "--debug"], ["--debug", *TRAIN]):
        ended = freehold(*arguments, "--out", tmp_path / "a")
        assert ended.code == 70
        assert "Traceback" in ended.err


def test_code_that_calls_exit_is_no_success(freehold, tmp_path, monkeypatch):
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    check(freehold(*TRAIN, *sets("model.uri=leaving:net"), "--out", tmp_path / "a"), 70, "sys.exit(0)")


@pytest.mark.parametrize("arguments", [["--version"], ["list", "map"], ["list", "--json"]])
def test_a_reader_that_goes_away_gets_no_error_and_no_success(arguments, monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as nowhere:
        monkeypatch.setattr(sys, "stdout", nowhere)
        assert main(arguments) == 141
    assert capsys.readouterr().err == ""


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(freehold, tmp_path):
    arguments = [*TRAIN, *sets("train.steps=600", "train.checkpoint_seconds=0")]
    out = ["--out", str(tmp_path / "a")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "freehold", *arguments, *out]
    process = subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a shell's background
    )
    while process.poll() is None and not (tmp_path / ".a.partial" / "train.state").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate()
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1].startswith("interrupted; the same command")
    assert "Traceback" not in errors
    assert printed == ""
    assert {p.name for p in tmp_path.iterdir()} == {".a.partial"}
