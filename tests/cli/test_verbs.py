"""What each verb prints and how it ends when all is well."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from cli_kit import CUTTING, TINY, sets

from freehold.artifacts import verify_run
from freehold.cli import doctor as checks
from freehold.plugin import find, names


def test_train_reports_accuracies_and_where_the_run_is(freehold, source):
    again = freehold("train", *sets("model.uri=convnet", *TINY), "--out", source)
    assert again.code == 0
    assert "digits-m: " in again.out
    assert f"run: {source} (was finished before" in again.out
    found = freehold("train", *sets("model.uri=convnet", *TINY), "--out", source, "--json").json
    assert found["already_finished"] is True
    assert found["accuracies"]["digits"]["n"] == 40


def test_without_a_name_equal_configurations_meet_in_one_folder(freehold, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = freehold("train", *sets("model.uri=convnet", *TINY), "--json").json
    assert first["directory"].startswith("runs/train-")
    assert not first["already_finished"]
    assert (
        freehold("train", *sets(*TINY, "model.uri=convnet"), "--json").json["directory"] == first["directory"]
    )
    verify_run(tmp_path / first["directory"])


def test_protect_opens_with_three_sentences_and_ends_with_the_page(freehold, source, bound):
    shown = freehold("protect", *sets(f"model.weights={source}", *TINY, *CUTTING), "--out", bound)
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert lines[0].startswith("MAP bound the model convnet to digits-m and closed digits to it")
    assert lines[1].startswith("On digits-m the owner keeps")
    assert lines[2].startswith("On digits an unauthorized user gets")
    assert lines[-1] == f"page: {bound / 'page.html'}"
    assert (bound / "page.html").read_text().startswith("<!")


@pytest.mark.parametrize(
    ("bars", "code", "verdict"),
    [
        ([], 0, "holds"),
        (["--max-source-drop", "100"], 0, "holds"),
        (["--max-target-accuracy", "0"], 1, "broken"),
        (["--max-target-accuracy", "12"], 2, "inconclusive"),
        (["--max-source-drop", "-100", "--max-target-accuracy", "12"], 1, "broken"),
    ],
)
def test_the_exit_code_of_evaluate_is_the_verdict(freehold, bound, bars, code, verdict, monkeypatch):
    ended = freehold("evaluate", bound, *bars, "--json")
    shares = [domain["after"]["value"] for domain in ended.json["evaluation"]["domains"]]
    assert 0 < shares[1] < 0.5, "the bars above suppose a weak model"
    assert (ended.code, ended.json["verdict"]) == (code, verdict)
    assert len(ended.json["claims"]) == len(bars) // 2
    plain = freehold("evaluate", bound, *bars)
    assert plain.code == code
    assert plain.out.count("claim ") == len(bars) // 2


def test_claims_of_the_configuration_decide_the_exit_code_of_protect(freehold, source, bound):
    arguments = sets(f"model.weights={source}", *TINY, *CUTTING, "claims.max_target_accuracy=0")
    assert freehold("protect", *arguments, "--out", bound).code == 1


def test_evaluate_on_more_domains_with_a_page(freehold, bound, tmp_path):
    ended = freehold("evaluate", bound, "--on", "digits | invert", "--page", tmp_path / "p.html", "--json")
    assert [d["name"] for d in ended.json["evaluation"]["domains"]][2] == "digits+invert"
    assert (tmp_path / "p.html").exists()


def test_list_shows_every_plug_in_and_every_field(freehold):
    table = freehold("list")
    assert table.code == 0
    for name in names():
        assert name in table.out
        one = freehold("list", name)
        card = find(name).card
        assert card.title in one.out
        assert card.breaks[0] in one.out
        for field in find(name).fields():
            assert field.name in one.out
        data = freehold("list", name, "--json").json
        assert [f["name"] for f in data["fields"]] == list(find(name).model_fields)
    assert [p["name"] for p in freehold("list", "--json").json["plugins"]] == sorted(names())


def test_doctor_says_what_is_there_and_fails_on_what_is_not(freehold, monkeypatch):
    monkeypatch.setattr("freehold.training.threads.BUDGET_SECONDS", 0.0)  # one probe will do
    healthy = freehold("doctor")
    assert healthy.code == 0, healthy.out
    for word in ("python", "torch", "device", "threads", "working directory", "disk", "[tensorboard]"):
        assert word in healthy.out

    def broken():
        raise OSError("read-only file system")

    monkeypatch.setattr(checks, "_writable", broken)
    ended = freehold("doctor", "--json")
    assert ended.code == 1
    assert ended.json["healthy"] is False
    assert [f["detail"] for f in ended.json["findings"] if not f["ok"]] == ["OSError: read-only file system"]


def test_the_demo_at_its_smallest(freehold, tmp_path):
    ended = freehold("demo", "--quick", "--out", tmp_path / "demo")
    assert ended.code == 0
    verify_run(tmp_path / "demo" / "source")
    verify_run(tmp_path / "demo" / "protected")
    assert ended.out.splitlines()[0].startswith("MAP bound the model convnet to digits-m")
    assert f"page: {tmp_path / 'demo' / 'protected' / 'page.html'}" in ended.out
    key, marked = tmp_path / "demo" / "owner.key", tmp_path / "demo" / "marked"
    assert verify_run(marked)["commitment"] in ended.out and key.stat().st_mode & 0o777 == 0o600
    assert ": thief " in ended.out and ": innocent " in ended.out
    assert "was finished before" in freehold("demo", "--quick", "--out", tmp_path / "demo").out


def test_help_and_version(freehold):
    top = freehold("--help")
    assert top.code == 0
    for verb in ("train", "protect", "evaluate", "watermark", "verify", "list", "doctor", "demo"):
        assert verb in top.out
        assert freehold(verb, "--help").code == 0
    assert freehold("--version").out.startswith("freehold ")
    nothing = freehold()
    assert nothing.code == 64
    assert "Usage" in nothing.out


def test_help_and_the_package_are_quick_and_import_no_torch():
    look = "sys.exit(str({'torch', 'numpy', 'scipy', 'pydantic', 'jinja2'} & set(sys.modules) or '') or 0)"
    for start in ("import freehold", "from freehold.cli import app; app.main(['--help'])"):
        code = f"import sys; {start}; {look}"
        began = time.monotonic()
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        assert time.monotonic() - began < 3  # a fraction of a second where nothing else runs


def test_python_m_freehold_is_the_command():
    ended = subprocess.run(
        [sys.executable, "-m", "freehold", "trian"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 64
    assert ended.stderr.count("\n") == 1


def test_json_is_all_there_is_on_standard_output(freehold, source, tmp_path):
    ended = freehold("train", *sets("model.uri=convnet", *TINY, "seed=3"), "--out", tmp_path / "a", "--json")
    assert json.loads(ended.out)["directory"] == str(tmp_path / "a")
    assert "train: 2/2" in ended.err


@pytest.fixture
def hurried(monkeypatch):
    """Attackers who take three steps."""
    from freehold.attacks.learning_curve import BUDGETS

    for name in ("equal", "swept"):
        hasty = BUDGETS[name].model_copy(update={"patience": 0.05, "lrs": (1e-3,)})
        monkeypatch.setitem(BUDGETS, name, hasty)


def test_evaluate_fine_tunes_as_attackers_would_and_shows_the_worst_first(freehold, bound, tmp_path, hurried):
    page = tmp_path / "page.html"
    asked = ["--slc", "--sizes", "5,20", "--seeds", "1"]
    ended = freehold("evaluate", bound, *asked, "--json", "--page", page)
    assert ended.code == 0, ended.err
    (found,) = ended.json["learning"]
    areas = [area["value"] for area in found["areas"]]
    assert found["domain"] == "digits" and areas == sorted(areas, reverse=True)
    assert {"equal", "swept"} == {area["budget"] for area in found["areas"]}
    names = {area["attacker"] for area in found["areas"]}
    assert {"zeros kept", "regrow", "re-initialised zeros", "norms reset", "rescaled"} <= names
    assert found["curves"]["scratch, equal"]["sizes"] == [5, 20]
    assert found["unprotected"]["attacker"] == "unprotected"
    assert "After fine-tuning" in page.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sizes", "5,20"], "--sizes: belongs to --slc"),
        (["--slc", "--sizes", "20,5"], "ascending"),
        (["--slc", "--sizes", "5,x"], "sizes.1"),
        (["--slc", "--sizes", "5,5000"], "5000 images asked for, 32 to be had"),
        (["--slc", "--reference", "nothing"], "reference"),
        (["--slc", "--seeds", "0"], "seeds"),
    ],
)
def test_learning_curves_that_cannot_be_are_refused_in_one_line(freehold, bound, words, said):
    ended = freehold("evaluate", bound, *words)
    assert ended.code >= 64 and said in ended.err and "Traceback" not in ended.err


SHORT_BANK = ("method.synthesis_steps=3", "method.synthetic=24")


def test_a_few_authorized_images_answer_what_a_source_free_run_left_open(freehold, source, tmp_path):
    free = [f"model.weights={source}", *TINY[1:], *CUTTING, "method.variant=source-free", *SHORT_BANK]
    ended = freehold("protect", *sets(*free), "--out", tmp_path / "free")
    assert ended.code == 0, ended.err
    assert "what the owner pays is unknown" in ended.out and "--authorized" in ended.out
    assert 'id="gallery"' in (tmp_path / "free" / "page.html").read_text()
    checked = freehold("evaluate", tmp_path / "free", "--authorized", "digits-m", "--json")
    (mine, _) = checked.json["evaluation"]["domains"]
    assert mine["role"] == "authorized" and mine["drop_low"] <= mine["drop"] <= mine["drop_high"]


def test_a_data_free_run_needs_no_data_at_all(freehold, source, tmp_path):
    free = [
        f"model.weights={source}",
        "data.image_size=16",
        *TINY[4:],
        *CUTTING,
        "method.variant=data-free",
        *SHORT_BANK,
    ]
    ended = freehold("protect", *sets(*free), "--out", tmp_path / "free")
    assert ended.code == 0, ended.err
    assert "nothing shows what a stranger gets" in ended.out
    again = freehold("evaluate", tmp_path / "free", "--on", "digits", "--authorized", "digits-m", "--json")
    assert [d["name"] for d in again.json["evaluation"]["domains"]] == ["digits-m", "digits"]


def test_one_command_attacks_a_run_and_says_what_came_back(freehold, bound):
    before = {p.name: p.read_bytes() for p in bound.iterdir()}
    ended = freehold("attack", bound, "fine-tune", "--set", "epochs=0.2", "--data", "digits", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["attack"]["fields"]["epochs"] == 0.2 and ended.json["attack"]["data"] == "digits"
    assert [d["name"] for d in ended.json["evaluation"]["domains"]] == ["digits-m", "digits"]
    assert {p.name: p.read_bytes() for p in bound.iterdir()} == before
    shown = freehold("attack", bound, "quantize", "--strong")
    assert shown.code == 0 and "quantize with digits-m: 40 images" in shown.out and "digits" in shown.out
    filled = freehold("attack", bound, "unprune", "--set", "fill=mean", "--json")
    assert filled.code == 0 and filled.json["attack"]["data"] == "digits", filled.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fine-tun"], "did you mean 'fine-tune'"),
        (["map"], "'map' is no attack"),
        (["fine-tune", "--set", "epoch=1"], "did you mean 'epochs'"),
        (["fine-tune", "--set", "epochs"], "key=value"),
        (["fine-tune", "--data", "moon"], "no domain 'moon'"),
        (["quantize", "--set", "bits=1"], "bits"),
        (["overwrite"], "no domain to close"),  # MAP, which the run was made by, needs one
        (["unprune", "--set", "guess=nowhere.safetensors"], "nowhere.safetensors"),
        (["extract", "--set", "images=digit"], "digit"),
    ],
)
def test_attacks_that_cannot_be_are_refused_in_one_line(freehold, bound, words, said):
    ended = freehold("attack", bound, *words)
    assert ended.code >= 64 and said in ended.err and "Traceback" not in ended.err
