"""Configurations: keys by dotted path, the nearest name for a misspelt one, nothing but our errors."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.authorization.map import MAP
from freehold.config import Config, from_json, load_config
from freehold.data.domain import InputSpec
from freehold.errors import ConfigError, FreeholdError, MissingInputError

TEXT = """
seed = 7
[model]
uri = "convnet"
weights = "a.safetensors"
[data]
authorized = "digits-m"
unauthorized = ["digits", {uri = "digits | rotate=30", name = "turned"}]
[train]
precision = "bf16"
steps = 12
[method]
name = "map"
steps = 3
[claims]
max_source_drop = 1.5
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(TEXT)
    return path


def minimal(**changes):
    return from_json({"model": {"uri": "convnet"}, "data": {"authorized": "digits"}, **changes})


def test_a_file_with_overrides(file):
    config = load_config(
        file, ["train.steps=5", "model.uri=vgg11", "method.lr = 0.01", "data.unauthorized=[]", "seed=1"]
    )
    assert (config.seed, config.train.steps, config.model.uri) == (1, 5, "vgg11")
    assert config.data.unauthorized == ()
    assert isinstance(config.method, MAP)
    assert (config.method.steps, config.method.lr) == (3, 0.01)
    assert config.claims.max_source_drop == 1.5
    assert load_config(file).data.unauthorized[1].name == "turned"


def test_everything_by_overrides_alone():
    config = load_config(None, ["model.uri=convnet", "data.authorized=digits", "data.unauthorized=digits-m"])
    assert config.data.authorized.uri == "digits"
    assert [source.uri for source in config.data.unauthorized] == ["digits-m"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a b", "a b"),
        ("runs/x", "runs/x"),
        ('"1"', "1"),
        ("[1, 2", "[1, 2"),
        ("x = 1\ny = 2", "x = 1\ny = 2"),
        ("", ""),
    ],
)
def test_what_is_no_toml_value_is_text(text, value):
    assert load_config(None, ["data.authorized=digits", f"model.uri={text}"]).model.uri == value


@pytest.mark.parametrize(
    ("overrides", "where", "said"),
    [
        (["trian.lr=1"], "trian", "did you mean 'train'"),
        (["train.learning_rate=1"], "train.learning_rate", "one of"),
        (["train.epoch=1"], "train.epoch", "did you mean 'epochs'"),
        (["data.unauthorised=digits"], "data.unauthorised", "did you mean 'unauthorized'"),
        (["data.unauthorized=[{uri='digits', nam='x'}]"], "data.unauthorized.0.nam", "did you mean 'name'"),
        (["method.target_wieght=1"], "method.target_wieght", "did you mean 'target_weight'"),
        (["method.name=mapp"], "method.name", "did you mean 'map'"),
        (["method.name=3"], "method.name", "no name"),
        (["claims.max_drop=1"], "claims.max_drop", "max_source_drop"),
        (["train.lr=-1"], "train.lr", "greater than 0"),
        (["train.lr=nan"], "configuration", "inf or nan"),
        (["method.steps=many"], "method.steps", "'many'"),
        (["train.precision=fp8"], "train.precision", "'fp32', 'bf16' or 'fp16'"),
        (["train.device=gpu"], "train.device", "pattern"),
        (["train.epochs=2"], "train", "epochs or steps, not both"),
        (["seed=-1"], "seed", "greater than or equal to 0"),
        (["data.image_size=2"], "data.image_size", "greater than or equal to 4"),
        (["data.val_fraction=0.7"], "data.val_fraction", "less than or equal to 0.5"),
        (["data.authorized=1979-05-27"], "configuration", "no dates"),
        (["seed.x=1"], "seed", "is no table"),
        (["method=map"], "method", ""),
        (["lr"], "--set lr", "section.key=value"),
        (["a..b=1"], "--set a..b=1", "section.key=value"),
        (["=1"], "--set =1", "section.key=value"),
    ],
)
def test_faults_name_the_key_and_the_mend(file, overrides, where, said):
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides)
    assert caught.value.where == where
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("gone", "where"), [("model", "model"), ("data", "data")])
def test_a_missing_section_is_named(gone, where):
    data = {"model": {"uri": "convnet"}, "data": {}}
    del data[gone]
    with pytest.raises(ConfigError, match="required") as caught:
        from_json(data)
    assert caught.value.where == where


def test_a_model_needs_something():
    with pytest.raises(ConfigError, match=r"model: give uri"):
        minimal(model={})


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(MissingInputError, match=r"no\.toml"):
        load_config(tmp_path / "no.toml")
    with pytest.raises(MissingInputError):
        load_config(tmp_path)
    broken = tmp_path / "broken.toml"
    for content, said in (
        (b"[model]\nuri = x\n", "line 2"),
        (b"\xff\xfe", "utf-8"),
        (b"a = " + b"[" * 10_000, "TOML"),
    ):
        broken.write_bytes(content)
        with pytest.raises(ConfigError, match=said):
            load_config(broken)


def test_the_resolved_file_says_the_same(file):
    config = load_config(file, ['model.options={"a.b" = ["x", {y = 0.1}], "é\\n\\u007f" = true}'])
    text = config.to_toml()
    assert from_json(tomllib.loads(text)) == config
    assert from_json(config.to_json()) == config
    assert "weight_decay" in text  # defaults are written out
    assert Config(**config.to_json()) == config


def test_the_identity_holds_what_the_result_depends_on(file):
    base = load_config(file)
    for job, changes in {
        "train": [
            "train.lr=0.1",
            "train.steps=3",
            "seed=1",
            "data.limit=50",
            "model.uri=vgg11",
            "train.device=cpu",
        ],
        "protect": ["method.lr=0.1", "seed=1", "data.limit=50", "train.precision=fp32"],
    }.items():
        for change in changes:
            assert load_config(file, [change]).identity(job) != base.identity(job), change
    for job, changes in {
        "train": [
            "method.lr=0.1",
            "claims.max_source_drop=2",
            "train.threads=2",
            "train.checkpoint_seconds=1",
        ],
        "protect": ["train.lr=0.1", "train.steps=3", "claims.max_source_drop=2", "data.download=true"],
    }.items():
        for change in changes:
            assert load_config(file, [change]).identity(job) == base.identity(job), change


def test_the_input_follows_the_recipe_where_nothing_is_said():
    assert minimal().data.input() == InputSpec()
    small = InputSpec(size=28, channels=1, mean=0.1, std=0.3)
    assert minimal().data.input(small) == small
    assert minimal(data={"image_size": 28, "std": 0.3}).data.input(small) == small
    grey = minimal(data={"channels": 1, "mean": 0.2}).data.input()
    assert (grey.channels, grey.mean, grey.std) == (1, (0.2,), (0.5,))
    with pytest.raises(ConfigError, match=r"data\.image_size.*made for \(28, 28\)"):
        minimal(data={"image_size": 32}).data.input(small)
    with pytest.raises(ConfigError, match=r"data\.mean"):
        minimal(data={"mean": 0.5}).data.input(small)


def test_execution_settings_reach_the_run(tmp_path):
    run = minimal(seed=5, train={"threads": 2, "precision": "bf16"}).run(tmp_path)
    assert (run.seed, run.threads, run.precision, run.directory) == (5, 2, "bf16", tmp_path)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
sections = {
    "model": ["uri", "weights", "allow_pickle", "options"],
    "data": ["authorized", "unauthorized", "image_size", "channels", "mean", "std", "limit", "seed", "root"],
    "train": ["lr", "steps", "epochs", "device", "threads", "precision", "trackers", "batch_size"],
    "method": ["name", "steps", "lr", "exclude", "variant"],
    "claims": ["max_source_drop"],
}
tables = st.fixed_dictionaries(
    {},
    optional={
        name: st.dictionaries(st.sampled_from(keys) | st.text(), values, max_size=4) | values
        for name, keys in sections.items()
    },
)


@given(tables)
def test_only_our_errors_come_out_of_values(data):
    try:
        config = from_json({"model": {"uri": "convnet"}, "data": {}, **data})
    except FreeholdError as error:
        assert str(error)
    else:
        assert from_json(tomllib.loads(config.to_toml())) == config


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_only_our_errors_come_out_of_files(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_text(TEXT + text, encoding="utf-8", errors="replace")
    try:
        load_config(path)
    except FreeholdError as error:
        assert str(error)


@given(st.text())
def test_only_our_errors_come_out_of_overrides(text):
    try:
        load_config(None, ["model.uri=convnet", "data.authorized=digits", text, f"data.limit={text}"])
    except FreeholdError as error:
        assert str(error)
