"""Bundles: all in them is recomputed, and nothing a malicious accuser or a thief hands in is accepted."""

from __future__ import annotations

import io
import json
import random
import stat
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from evidence_kit import (
    EXAMINER,
    OWNER,
    THIEF,
    bundle,
    claimed,
    inside,
    release,
    repacked,
    signed,
    statement,
)
from hypothesis import given
from hypothesis import strategies as st
from kit import quiet
from ownership_kit import SPEC, answers, knowing, trigger_key
from safetensors.torch import load, save

from freehold.data import Domains, InputSpec
from freehold.data.sources import load_domain
from freehold.errors import ArtifactError, FreeholdError, OutputError, UsageError
from freehold.evidence import bundle_writing
from freehold.evidence.bundle import NAMES, read_bundle
from freehold.evidence.check import Known, State, check_bundle, worst
from freehold.evidence.claim import make, sign
from freehold.evidence.container import LARGEST, archive_of, unpacked
from freehold.evidence.hashtree import leaves_of, tree_root
from freehold.evidence.replay import check_channels
from freehold.evidence.signature import public_bytes
from freehold.evidence.strict import canonical
from freehold.jobs.checking import CheckReport
from freehold.keys import Key
from freehold.models.checkpoint import Recipe
from freehold.models.weights import read_safetensors, state_hash
from freehold.models.zoo import ModelSpec
from freehold.ownership.passport import Passport
from freehold.ownership.ptynet import PTYNet
from freehold.ownership.suspect import CallableSuspect, ModuleSuspect
from freehold.ownership.trigger_set import TriggerSet
from freehold.ownership.triggers import trial_images
from freehold.plugin import Access


@pytest.fixture
def at(tmp_path):
    def write(content: bytes) -> Path:
        path = tmp_path / "b.zip"
        path.write_bytes(content)
        return path

    return write


def links(path: Path, suspect=None, **known) -> dict[str, str]:
    return {
        link.name: link.state.value for link in check_bundle(read_bundle(path), Known(**known), suspect).links
    }


def accepted(path: Path, folder: Path, suspect=None, **known) -> bool:
    """Whether a careful reader would take it: he knows the owner's public key and has the release."""
    try:
        found = read_bundle(path)
        known = {"signer": public_bytes(OWNER), "release": folder, **known}
        checked = check_bundle(found, Known(**known), suspect)
    except FreeholdError:
        return False
    apart = [link for link in checked.links if link.name != "time"]
    report = CheckReport(found.claim, type(checked)(tuple(apart), checked.verdict))
    return report.state == State.HOLDS


def test_an_honest_bundle_holds_in_every_link(at, whole, folder, made):
    path = at(whole)
    assert links(path) == {
        "signature": "open", "time": "open", "digest": "open", "commitment": "holds",
        "derivation": "holds", "statistics": "holds", "answers": "open",
    }  # fmt: skip
    assert accepted(path, folder, knowing(made[1])) and not accepted(path, folder)
    other = zipfile.ZipFile(path)
    assert other.testzip() is None and set(other.namelist()) <= set(NAMES)


def test_it_is_for_few_eyes_and_never_written_over_another(tmp_path, made):
    path = bundle(tmp_path / "b.zip", *made)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(OutputError, match="already"):
        bundle(path, *made)


def test_an_examiner_answers_for_the_record(tmp_path, folder, made, whole, at):
    path = bundle(tmp_path / "signed.zip", *made, signer=EXAMINER)
    assert accepted(path, folder, examiner=public_bytes(EXAMINER))
    assert links(path)["answers"] == "open"
    assert links(path, examiner=public_bytes(THIEF))["answers"] == "fails"
    assert links(at(whole), examiner=public_bytes(EXAMINER))["answers"] == "fails"
    files = inside(path.read_bytes())
    with pytest.raises(ArtifactError, match="another case"):
        read_bundle(at(repacked(files, lambda case: case["predicate"]["suspect"].update(name="me"))))


def test_a_clear_case_that_stopped_early_is_replayed_as_far_as_it_went(tmp_path, folder, made):
    path = bundle(tmp_path / "short.zip", *made, sequential=True)
    assert read_bundle(path).case.predicate.queries.count < 100
    assert accepted(path, folder, knowing(made[1]))


def showing(key: Key, asked: CallableSuspect) -> CallableSuspect:
    """A suspect whose scores say what ``asked`` answers, while they lean to class 3 for every image."""

    def scores(batch: torch.Tensor) -> torch.Tensor:
        found = torch.nn.functional.one_hot(asked._function(batch), 10) * 2.0
        return (found + 4.0 * torch.nn.functional.one_hot(torch.tensor(3), 10)).softmax(1)

    return CallableSuspect(scores, SPEC, 10, access=Access.PROBABILITIES)


def test_scores_are_in_the_bundle_and_the_answers_have_to_follow_from_them(tmp_path, folder, made):
    claim, key = made
    suspect = showing(key, knowing(key))
    path = bundle(tmp_path / "case.zip", claim, key, suspect)
    files = inside(path.read_bytes())
    found = read_bundle(path)
    assert found.scores is not None and found.scores.shape == (len(found.answers), 10)
    assert (
        int((found.scores.argmax(1) == 3).sum()) == len(found.answers)
        and len(set(found.answers.tolist())) > 5
    )
    assert links(path, suspect)["statistics"] == State.HOLDS and accepted(path, folder, suspect)
    answers = json.loads(files["answers.json"])
    answers[0] = (answers[0] + 1) % 10
    path.write_bytes(repacked({**files, "answers.json": canonical(answers)}))
    assert links(path)["statistics"] == State.FAILS and not accepted(path, folder)
    scores = files["scores.bin"]
    for damaged in (scores[:-4], b"\0\0\xc0\x7f" + scores[4:], b"\0\0\x80\xbf" + scores[4:]):
        path.write_bytes(repacked({**files, "scores.bin": damaged}))
        with pytest.raises(ArtifactError, match="scores"):
            read_bundle(path)


def test_many_queries_are_known_by_the_root_of_their_tree(tmp_path, folder, made, monkeypatch):
    monkeypatch.setattr(bundle_writing, "RAW", 1000)
    path = bundle(tmp_path / "tree.zip", *made)
    assert read_bundle(path).queries is None and links(path)["derivation"] == "holds"
    images = trial_images("unrelated", made[1], 100, SPEC)
    assert read_bundle(path).case.predicate.queries.root == tree_root(leaves_of(images))


def test_the_tree_is_that_of_rfc_6962():
    import hashlib

    def mth(data: list[bytes]) -> bytes:
        if len(data) == 1:
            return hashlib.sha256(b"\0" + data[0]).digest()
        k = 1
        while 2 * k < len(data):
            k *= 2
        return hashlib.sha256(b"\1" + mth(data[:k]) + mth(data[k:])).digest()

    for count in range(1, 20):
        images = torch.randint(256, (count, 1, 2, 2), dtype=torch.uint8)
        assert tree_root(leaves_of(images)) == mth([bytes(i.flatten().tolist()) for i in images]).hex()
    assert tree_root([]) == hashlib.sha256(b"").hexdigest()


def test_questions_that_another_machine_rounds_otherwise_are_the_same_and_others_are_not(
    at, whole, folder, made
):
    files = inside(whole)

    def with_queries(change) -> Path:
        data = bytearray(files["queries.bin"])
        change(data)
        images = torch.frombuffer(data, dtype=torch.uint8).view(100, 3, 8, 8)
        root = tree_root(leaves_of(images))
        new = {**files, "queries.bin": bytes(data)}
        return at(repacked(new, lambda case: case["predicate"]["queries"].update(root=root)))

    def one_level(data):
        data[500] += 1 if data[500] < 255 else -1

    def two_levels(data):
        data[500] += 2 if data[500] < 254 else -2

    def many(data):
        for place in range(0, 300, 3):
            data[place] += 1 if data[place] < 255 else -1

    assert links(with_queries(one_level))["derivation"] == "holds"
    assert links(with_queries(two_levels))["derivation"] == "fails"
    assert links(with_queries(many))["derivation"] == "fails"


# --- the malicious accuser, and the thief


def test_adversarial_examples_as_questions(at, whole, folder, made):
    """He asks what he knows the suspect will answer: the images do not follow from the key."""
    files = inside(whole)
    key = made[1]
    chosen = torch.randint(256, (100, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    files["queries.bin"] = bytes(chosen.flatten().tolist())
    root = tree_root(leaves_of(chosen))
    path = at(repacked(files, lambda case: case["predicate"]["queries"].update(root=root)))
    found = links(path)
    assert found["derivation"] == "fails" and not accepted(path, folder, knowing(key))


def test_made_up_answers(at, whole, folder, made, tmp_path):
    """Nobody can see from afar that a suspect never said so; asking it again shows it."""
    innocent = answers(lambda n: torch.zeros(n, dtype=torch.int64))
    path = at(whole)
    assert not accepted(path, folder) and not accepted(path, folder, innocent)
    files = inside(whole)
    right = json.loads(files["answers.json"])
    files["answers.json"] = canonical([*right[:50], *[(a + 1) % 10 for a in right[50:]]])
    assert links(at(repacked(files)))["statistics"] == "fails"


def test_a_verdict_that_says_more_than_the_answers(at, whole, folder, made, tmp_path):
    few = bundle(tmp_path / "few.zip", *made, suspect=knowing(made[1], 0.05)).read_bytes()
    files = inside(few)
    verdict = json.loads(inside(whole)["case.json"])["predicate"]["verdict"]
    path = at(repacked(files, lambda case: case["predicate"].update(verdict=verdict)))
    assert links(path)["statistics"] == "fails" and not accepted(path, folder, knowing(made[1]))
    for field, value in (("p_value", 1e-30), ("alpha", 1e-5), ("decision", "MATCH"), ("matches", 100)):
        path = at(repacked(files, lambda case, f=field, v=value: case["predicate"]["verdict"].update({f: v})))
        assert links(path)["statistics"] == "fails", field


def test_a_laxer_test_than_was_claimed(at, folder, tmp_path):
    claim, key = claimed(folder)
    data = statement(claim)
    data["predicate"]["test"]["alpha"] = 1e-9
    path = bundle(tmp_path / "lax.zip", signed(data), key)
    assert links(path)["statistics"] == "fails"


def test_seed_grinding(folder, tmp_path):
    """Keys tried until one fits an innocent suspect: none does, and a claim made afterwards is too young."""
    innocent = answers(lambda n: torch.arange(n) % 10)
    best = max(range(400), key=lambda n: trigger_labels(n))
    claim, key = claimed(folder, best)
    path = bundle(tmp_path / "b.zip", claim, key, innocent)
    assert not accepted(path, folder, innocent)
    assert not accepted(bundle(tmp_path / "c.zip", claim, key, innocent, committed=False), folder, innocent)


def trigger_labels(number: int) -> int:
    """How many of the first 16 trials of key ``number`` an innocent suspect would answer as it expects."""
    labels = trigger_key(number).stream("labels").integers(10, 100)
    return int((labels.view(-1)[:96].view(6, 16) == torch.arange(16) % 10).sum())


def test_a_claim_over_the_model_of_another(folder, made, tmp_path, at, whole):
    """Anybody can hash a file and sign that: the suspect does not know his key's answers."""
    claim, key = claimed(folder, 6, THIEF)
    suspect = knowing(made[1])
    path = bundle(tmp_path / "his.zip", claim, key, suspect)
    assert not accepted(path, folder, suspect, signer=public_bytes(THIEF))
    # or he signs what the owner claims: the key that opens it is the owner's, and the signature is not
    data = statement(made[0])
    data["predicate"]["signer"] = public_bytes(THIEF).hex()
    files = {**inside(whole), "claim.json": signed(data, THIEF)}
    assert not accepted(at(repacked(files)), folder, suspect)
    assert links(at(repacked(files)), signer=public_bytes(OWNER))["signature"] == "fails"
    # or he puts the owner's commitment over a key of his own
    data["predicate"]["signer"] = public_bytes(OWNER).hex()
    files = {**inside(path.read_bytes()), "claim.json": made[0]}
    assert links(at(repacked(files)))["commitment"] == "fails"


def test_another_release_is_not_the_one_that_was_claimed(at, whole, tmp_path):
    release(tmp_path / "other", seed=2)
    assert links(at(whole), release=tmp_path / "other")["digest"] == "fails"
    assert links(at(whole), release=tmp_path / "nowhere")["digest"] == "fails"


def test_a_bundle_replayed_against_another_suspect(at, whole, folder, made):
    other = answers(lambda n: torch.zeros(n, dtype=torch.int64))
    files = inside(whole)

    def renamed(case):
        case["predicate"]["suspect"]["name"] = "other"

    assert links(at(repacked(files, renamed)))["statistics"] == "fails"

    def renamed_throughout(case):
        renamed(case)
        case["predicate"]["verdict"]["suspect"] = "other"

    path = at(repacked(files, renamed_throughout))
    assert not accepted(path, folder) and not accepted(path, folder, other)


@pytest.fixture(scope="module")
def second(tmp_path_factory) -> bytes:
    """A bundle of another owner on another model."""
    folder = tmp_path_factory.mktemp("second") / "model"
    release(folder, seed=3)
    return bundle(folder.with_name("b.zip"), *claimed(folder, 9, THIEF)).read_bytes()


@pytest.mark.parametrize("name", ["claim.json", "opening.json", "answers.json", "queries.bin", "case.json"])
def test_bundles_mixed(at, whole, second, folder, made, name):
    files = {**inside(whole), name: inside(second)[name]}
    if name != "case.json":  # as it is: the case names other files
        plain = archive_of({n: files[n] for n in NAMES if n in files}, where="x")
        with pytest.raises(ArtifactError, match="not the file"):
            read_bundle(at(plain))
    path = at(repacked(files))
    assert not accepted(path, folder, knowing(made[1]))
    assert worst(check_bundle(read_bundle(path), Known()).links) == State.FAILS


# --- archives


def zipped(*entries: tuple[str, bytes], how: int = zipfile.ZIP_STORED, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = how
            info.external_attr = (stat.S_IFLNK | 0o777) << 16 if name == link else 0o600 << 16
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                archive.writestr(info, data)
    return buffer.getvalue()


def hostile(whole: bytes) -> dict[str, bytes]:
    files = list(inside(whole).items())
    first = files[0]
    return {
        "a path upwards": zipped(("../claim.json", first[1]), *files),
        "an absolute path": zipped(("/etc/passwd", b""), *files),
        "a path with a drive": zipped(("C:\\claim.json", b""), *files),
        "a link": zipped(*files, link="page.html"),
        "a link elsewhere": zipped((first[0], b"/etc/passwd"), *files[1:], link="claim.json"),
        "a bomb": zipped(("claim.json", bytes(50 << 20)), *files[1:], how=zipfile.ZIP_DEFLATED),
        "a bomb under another name": zipped(("bomb", bytes(50 << 20)), how=zipfile.ZIP_DEFLATED),
        "a name twice": zipped(first, *files),
        "another order": zipped(*reversed(files)),
        "another file": zipped(*files, ("more", b"")),
        "packed again": zipped(*files),
        "something behind": whole + b"\0",
        "something before": b"\0" + whole,
        "cut off": whole[:-1],
        "nothing": b"",
        "only an end": b"PK\5\6" + bytes(18),
        "no page": repacked({n: d for n, d in files if n != "page.html"}),
        "no claim": repacked({n: d for n, d in files if n != "claim.json"}),
        "a length beyond the end": whole[:18] + b"\xff\xff\xff\x7f" * 2 + whole[26:],
    }


def test_archives_of_any_other_form_are_refused_and_nothing_is_unpacked(at, whole, tmp_path):
    for what, content in hostile(whole).items():
        with pytest.raises(ArtifactError):
            read_bundle(at(content))
            pytest.fail(what)
    assert {p.name for p in tmp_path.rglob("*")} == {"b.zip"}


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "large.zip"
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(ArtifactError, match="more than"):
        read_bundle(path)


def test_flipped_bits_are_noticed(at, whole):
    draws = random.Random(2)
    places = [*range(100), *(draws.randrange(len(whole)) for _ in range(200))]
    places += range(len(whole) - 100, len(whole))
    for place in places:
        bad = bytearray(whole)
        bad[place] ^= 1 << draws.randrange(8)
        with pytest.raises(ArtifactError):
            read_bundle(at(bytes(bad)))


@given(st.dictionaries(st.sampled_from(NAMES), st.binary(max_size=60)))
def test_archives_come_back_as_they_were(files):
    ordered = {name: files[name] for name in NAMES if name in files}
    assert unpacked(archive_of(ordered, where="x"), NAMES, where="x") == ordered


@given(st.binary(max_size=200), st.integers(0, 3))
def test_noise_is_no_archive(noise, kind):
    start = (b"", b"PK\3\4", b"PK\5\6", b"PK\1\2")[kind]
    with pytest.raises(ArtifactError):
        unpacked(start + noise, NAMES, where="x")


# --- contents


def change(*path, to):
    def apply(case):
        holder = case["predicate"]
        for part in path[:-1]:
            holder = holder[part]
        holder[path[-1]] = to

    return apply


@pytest.mark.parametrize(
    "alteration",
    [
        change("more", to=1),
        change("verdict", "more", to=1),
        change("suspect", "size", to=[8, 10**9]),
        change("suspect", "size", to=[16, 16]),
        change("suspect", "num_classes", to=10**12),
        change("suspect", "num_classes", to=2),
        change("suspect", "access", to="all"),
        change("suspect", "name", to="a\nb"),
        change("queries", "count", to=10**9),
        change("queries", "count", to=99),
        change("verdict", "p_value", to="0"),
        change("verdict", "decision", to="GUILTY"),
        change("made", to="now"),
    ],
)
def test_a_case_of_another_form_is_refused(at, whole, alteration):
    with pytest.raises(ArtifactError):
        read_bundle(at(repacked(inside(whole), alteration)))


@pytest.mark.parametrize(
    "text",
    [
        b"[]", b"{}", b"[-1]", b"[0.5]", b"[true]", b'["0"]', b"[1e3]", b"[" * 5000,
        b"[" + b"9" * 4000 + b"]",
        b"[null]", b"\xff", b"", b"[10" + b",0" * 99 + b"]",
    ],
)  # fmt: skip
def test_answers_are_whole_numbers_one_a_question(at, whole, text):
    with pytest.raises(ArtifactError):
        read_bundle(at(repacked({**inside(whole), "answers.json": text})))


def opening_with(whole: bytes, **fields) -> bytes:
    body = json.loads(inside(whole)["opening.json"])
    for name, value in fields.items():
        if value is None:
            del body[name]
        else:
            body[name] = value
    return canonical(body)


@pytest.mark.parametrize(
    "fields",
    [
        {"secret": "00"}, {"secret": "zz" * 32}, {"secret": 1}, {"format": 2}, {"owner": 7}, {"facts": []},
        {"learned": "0" * 64}, {"more": 1}, {"settings": None}, {"owner": "a" * 2000},
    ],
)  # fmt: skip
def test_an_opening_of_another_form_is_refused(at, whole, fields):
    with pytest.raises(ArtifactError):
        read_bundle(at(repacked({**inside(whole), "opening.json": opening_with(whole, **fields)})))
    spaced = inside(whole)["opening.json"].replace(b":", b": ", 1)
    with pytest.raises(ArtifactError, match="committed"):
        read_bundle(at(repacked({**inside(whole), "opening.json": spaced})))


HUGE = {"layer": "a", "norm": "b", "channels": 10**9, "fan_in": 10**9}


@pytest.mark.parametrize(
    "facts",
    [
        {}, {"num_classes": None}, {"input": 5}, {"num_classes": 10**9}, {"num_classes": "10"},
        {"input": {"size": [4096, 4096]}}, {"layers": [HUGE]}, {"layers": [5]}, {"layers": "x"},
    ],
)  # fmt: skip
def test_facts_that_no_trial_can_be_drawn_from_fail_and_raise_nothing(at, whole, facts):
    given = {"input": {"size": [8, 8]}, "num_classes": 10, **facts} if facts else {}
    method = "passport" if "layers" in facts else "trigger-set"
    settings = (
        Passport().model_dump(mode="json") if "layers" in facts else TriggerSet().model_dump(mode="json")
    )
    opening = opening_with(whole, facts=given, method=method, settings=settings)
    found = links(at(repacked({**inside(whole), "opening.json": opening})))
    assert found["commitment"] == found["statistics"] == "fails"


@pytest.mark.parametrize(
    "fields",
    [{"method": "no-method"}, {"method": "map"}, {"settings": {}}, {"settings": {"triggers": 10**9}}],
)
def test_a_key_that_cannot_be_used_fails_its_links_and_raises_nothing(at, whole, fields):
    found = links(at(repacked({**inside(whole), "opening.json": opening_with(whole, **fields)})))
    assert found["commitment"] == found["statistics"] == "fails"


def test_tensors_of_another_form_are_refused(at, whole):
    for data in (b"", b"\xff" * 100, save({"a": torch.tensor([float("nan")])}), save({"a": torch.ones(2)})):
        with pytest.raises(ArtifactError):
            read_bundle(at(repacked({**inside(whole), "learned.safetensors": data})))


def test_a_verdict_that_broke_off_is_no_evidence(tmp_path, made):
    def fails(n):
        raise OSError

    with pytest.raises(UsageError, match="broke off"):
        bundle(tmp_path / "b.zip", *made, suspect=answers(fails))


# --- the other methods


def test_a_branch_is_asked_several_images_a_trial(at, folder, tmp_path):
    method = PTYNet(families=20, foregrounds=2)
    spec = SPEC.model_copy(update={"size": (12, 12)})
    facts = {"input": spec.model_dump(mode="json"), "num_classes": 10}
    own = Key(b"\7" * 32, "ACME").bound(method.name, method.model_dump(mode="json"), facts)
    key = own.released(state_hash(read_safetensors(folder / "model.safetensors")[0]))
    images, labels = method._images(key).float().flatten(1), method._trials(key).labels.repeat_interleave(2)

    def look_up(batch):
        pixels = ((batch + 1) * 127.5).round().flatten(1)
        return labels[torch.cdist(pixels, images).argmin(1)]

    claim = sign(make(folder, key, public_bytes(OWNER)), OWNER)
    suspect = CallableSuspect(look_up, spec, 10)
    path = bundle(tmp_path / "b.zip", claim, key, suspect)
    assert read_bundle(path).case.predicate.queries.count == 40
    assert accepted(path, folder, suspect) and links(path)["statistics"] == "holds"


@pytest.fixture(scope="module")
def passported(tmp_path_factory):
    """A model marked by passports, its claim and its key."""
    folder = tmp_path_factory.mktemp("passport") / "model"
    spec = ModelSpec(uri="convnet", num_classes=10)
    domains = Domains(load_domain("digits", limit=60), [], InputSpec(size=8))
    method, key = Passport(steps=2, batch_size=8, layers="last-1"), Key(b"\x08" * 32)
    marked = method.protect(spec.build(seed=1), domains, run=quiet(), key=key)
    marked.save(folder, Recipe(model=spec, input=SPEC, classes=tuple(map(str, range(10)))))
    return folder, sign(make(folder, marked.key, public_bytes(OWNER)), OWNER), marked


def test_bits_are_read_again_in_the_weights_of_the_bundle(passported, tmp_path, monkeypatch, at):
    folder, claim, marked = passported
    spec = InputSpec(size=8)
    one = ModuleSuspect(marked.model, spec, name="one")
    path = bundle(tmp_path / "b.zip", claim, marked.key, one)
    found = read_bundle(path)
    assert found.case.predicate.verdict.decision == "MATCH"
    assert found.queries is None and "features.18" in found.weights
    assert links(path)["statistics"] == "holds" and accepted(path, folder, one)
    innocent = ModuleSuspect(ModelSpec(uri="convnet", num_classes=10).build(seed=9), spec, name="one")
    assert not accepted(path, folder, innocent)
    files = inside(path.read_bytes())
    weights = load(files["weights.safetensors"])
    name = "features.18"
    for change in (torch.zeros_like(weights[name]), torch.zeros(3)):
        new = at(repacked({**files, "weights.safetensors": save({**weights, name: change.contiguous()})}))
        assert links(new)["statistics"] == "fails"
    without = {n: d for n, d in files.items() if n != "weights.safetensors"}
    assert links(at(repacked(without)))["statistics"] == "open"
    assert accepted(at(repacked(without)), folder, one)
    monkeypatch.setattr(bundle_writing, "READ", 0)
    assert not read_bundle(bundle(tmp_path / "few.zip", claim, marked.key, one)).weights


@pytest.mark.parametrize(
    ("shape", "channels", "fan_in"),
    [((9000, 3), 9000, 3), ((6000, 3, 1, 1), 12000, 3), ((3, 6000), 3, 12000), ((3, 6000, 3, 3), 3, 108_000)],
)
def test_layers_that_would_take_too_long_to_put_in_order_are_refused(shape, channels, fan_in):
    pair = {"layer": "a", "norm": "b", "channels": channels, "fan_in": fan_in}
    key = Key(bytes(32), "X").bound("passport", {}, {"layers": [pair], "aligned": [pair]})
    with pytest.raises(ArtifactError, match="more channels"):
        check_channels(key, {"a": torch.zeros(shape)})
    fine = {**pair, "channels": 64, "fan_in": 27}
    key = Key(bytes(32), "X").bound("passport", {}, {"layers": [fine], "aligned": [fine]})
    check_channels(key, {"a": torch.zeros(32, 3, 3, 3)})
