"""Command lines: overrides of a config, and errors as one sentence."""

import functools
import importlib
import re
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from clipa_jax.errors import ConfigError, DataError
from clipa_jax.runtime import arguments, cli

CONFIG = """
from clipa_jax.config import schema
def get_config(arg=""):
    c = schema.default()
    c.total_examples, c.warmup_percent = 800, 10.0
    if arg == "bad":
        raise ValueError("no such argument: bad")
    return schema.schedule({"pretrain": c}) if arg == "schedule" else c
"""


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "recipe.py"
    made.write_text(CONFIG)
    return made


@pytest.fixture
def command(monkeypatch):
    """Runs the parser on arguments, on flags of its own; gives the config."""
    values = flags.FlagValues()
    define = functools.partial(config_flags.DEFINE_config_file, flag_values=values)
    monkeypatch.setattr(config_flags, "DEFINE_config_file", define)
    monkeypatch.setattr(flags, "FLAGS", values)
    holder = cli.define_config()

    def run(*arguments, needs_config=True):
        argv = ["train", *(str(argument) for argument in arguments)]
        monkeypatch.setattr(sys, "argv", argv)  # where config_flags looks for overrides
        cli.arguments.parse(argv, needs_config=needs_config)
        return holder.value

    return run


def test_overrides_reach_the_config(command, file):
    config = command(
        f"--config={file}", "--config.optim.b2=0.5", "--config.seed", "3", "--config.name=a"
    )
    assert (config.optim.b2, config.seed, config.name) == (0.5, 3, "a")
    assert config.total_examples == 800


def test_an_override_of_a_duration_unsets_its_other_units(command, file):
    config = command(f"--config={file}", "--config.total_steps=10", "--config.log_percent=5")
    assert (config.total_steps, config.total_examples) == (10, None)
    assert (config.log_percent, config.log_steps) == (5.0, None)
    assert config.warmup_percent == 10.0
    assert config.is_locked


def test_a_duration_override_in_a_stage_of_a_schedule_unsets_other_units(command, file):
    config = command(f"--config={file}:schedule", "--config.pretrain.total_steps=10")
    assert (config.pretrain.total_steps, config.pretrain.total_examples) == (10, None)


def test_two_units_of_a_duration_are_refused(command, file):
    with pytest.raises(ConfigError, match="both total_(steps|examples) and total_(steps|exam.*) a"):
        command(f"--config={file}", "--config.total_steps=10", "--config.total_examples=80")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("--config.sead=1", "unknown key in config 'sead'; nearest: seed"),
        ("--config.optim.be2=1", "unknown key in config.optim 'be2'; nearest: b2"),
        ("--config.input.batchsize=8", "config.input 'batchsize'; nearest: batch_size"),
        ("--config.optin.b2=1", "unknown key in config 'optin'; nearest: optim"),
        ("--config.seed.x=1", "unknown key in config.seed 'x'; legal: none"),
    ],
)
@pytest.mark.parametrize("first", [(), ("--config.seed=1",)], ids=["alone", "after a legal one"])
def test_an_unknown_override_names_the_nearest_key(command, file, override, said, first):
    with pytest.raises(ConfigError, match=said):
        command(f"--config={file}", *first, override)
    assert sys.argv[-1] == override  # put back


def test_a_value_of_the_wrong_type_is_refused(command, file):
    with pytest.raises((ConfigError, flags.Error), match="seed"):
        command(f"--config={file}", "--config.seed=many")


@pytest.mark.parametrize("name", ["none.py", "none/none.py"])
def test_a_missing_config_file_is_an_error(command, tmp_path, name):
    with pytest.raises(ConfigError, match="none.py"):
        command(f"--config={tmp_path / name}")
    with pytest.raises(ConfigError, match="none.py"):
        command(f"--config={tmp_path / name}", "--config.seed=1")


def test_a_config_file_that_raises_gives_its_own_message(command, file):
    with pytest.raises(ConfigError) as caught:
        command(f"--config={file}:bad")
    assert str(caught.value) == "--config: no such argument: bad"  # without a traceback


def test_config_is_required_unless_needs_config_is_false(command):
    with pytest.raises(ConfigError, match="--config=FILE.py is needed"):
        command()
    assert command(needs_config=False) is None


@pytest.mark.parametrize("section", ["", "pretrain.", "all."])
@pytest.mark.parametrize("key", ["optim.grad_clip", "model.temperature_max", "microbatch"])
def test_none_can_be_given_where_the_schema_allows_it(command, file, section, key):
    recipe = f"{file}:schedule" if section else file
    config = command(f"--config={recipe}", f"--config.{section}{key}=None")
    section = section.replace("all.", "pretrain.")
    assert (
        functools.reduce(lambda node, part: node[part], f"{section}{key}".split("."), config)
        is None
    )


@pytest.mark.parametrize("key", ["seed", "optim.b2", "model.size", "sead"])
def test_none_is_refused_where_the_schema_does_not_allow_it(command, file, key):
    with pytest.raises(ConfigError, match=key):
        command(f"--config={file}", f"--config.{key}=None")


def test_a_key_given_twice_is_refused_with_both_values(command, file):
    shards = [f"--config.input.source=tfrecord:{index:05d}" for index in range(4)]
    with pytest.raises(ConfigError, match="4 times.*00000.*00003.*quotes"):
        command(f"--config={file}", *shards)


@pytest.mark.parametrize(
    "flags",
    [
        ("--noconfig.logs.tensorboard", "--config.logs.tensorboard"),
        ("--config.evals.imagenet-a.batch_size=1", "--config.evals.imagenet_a.batch_size=2"),
    ],
)
def test_a_key_given_twice_in_two_ways_is_refused(command, file, flags):
    with pytest.raises(ConfigError, match="is given 2 times"):
        command(f"--config={file}", *flags)


def test_a_key_given_for_a_stage_and_for_all_is_refused(command, file):
    with pytest.raises(ConfigError, match="both.*pretrain.seed.*all.seed"):
        command(f"--config={file}:schedule", "--config.pretrain.seed=1", "--config.all.seed=2")


def test_a_flag_that_has_no_default_cannot_be_empty(command, file):
    flags.DEFINE_string("workdir", None, "Of the run.", flag_values=flags.FLAGS)
    with pytest.raises(ConfigError, match="--workdir is empty"):
        command(f"--config={file}", "--workdir=")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--config.name=gs:/bucket/r", "--config.name=gs:/bucket/r: .*begins with gs://"),
        ("--config.name=webdataset:s3:/b/*.tar", "an address begins with s3://"),
        ("--config.name=gss://bucket/r", "unknown scheme 'gss'; nearest: gs"),
    ],
)
def test_a_misspelled_address_is_refused(command, file, given, message):
    with pytest.raises(ConfigError, match=message):
        command(f"--config={file}", given)


def test_a_section_cannot_be_none(command, file):
    with pytest.raises(ConfigError, match="--config.mask is a section, with the keys name, ratio"):
        command(f"--config={file}", "--config.mask=None")


def test_an_argument_without_a_flag_is_refused(command, file):
    with pytest.raises(ConfigError, match="'two.tar'"):
        command(f"--config={file}", "--config.input.source=webdataset:one.tar", "two.tar")


@pytest.mark.parametrize("value", ["(1,", "(a b)"])
def test_a_malformed_tuple_is_refused_with_an_example(command, file, value):
    with pytest.raises(ConfigError, match="config.surgery.*expected a tuple"):
        command(f"--config={file}", f"--config.surgery={value}")


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("~/a", "HOME/a"),
        ("webdataset:~/a/*.tar", "webdataset:HOME/a/*.tar"),
        ("0.5*tfds:~/a + 0.5*folder:~/b", "0.5*tfds:HOME/a + 0.5*folder:HOME/b"),
        ("a~/b", "a~/b"),
    ],
)
def test_a_tilde_is_the_home_folder_in_every_path(command, file, given, path):
    config = command(f"--config={file}", f"--config.input.source={given}", f"--config.init={given}")
    path = path.replace("HOME", str(Path.home()))
    assert (config.input.source, config.init) == (path, path)


@pytest.fixture
def program(monkeypatch, command):
    """`cli.run` without absl's start-up and without changing the log of all tests."""

    def app(main, flags_parser):
        sys.exit(main(flags_parser(sys.argv)))

    monkeypatch.setattr(cli.app, "run", app)
    monkeypatch.setattr(cli, "quiet", lambda: None)

    def run(main, *arguments, **options):
        monkeypatch.setattr(sys, "argv", ["train", *(str(a) for a in arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.run(main, **options)
        return caught.value.code

    return run


def test_a_user_error_is_printed_and_gives_status_1(program, file, capsys):
    def main(argv):
        raise DataError("no shards in data/; run tools/prepare_data.py")

    assert program(main, f"--config={file}") == 1
    said = capsys.readouterr()
    assert said.err == "error: no shards in data/; run tools/prepare_data.py\n"
    assert said.out == ""


@pytest.mark.parametrize(
    "wrong", ["--config.sead=1", "--config.seed=many", "--sead=1", "--config.total_steps=ten"]
)
def test_wrong_flags_are_printed_and_give_status_1(program, file, capsys, wrong):
    started = []
    assert program(started.append, f"--config={file}", wrong) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert started == []


def test_help_lists_the_flags_and_where_keys_are_documented(program, capsys):
    def main(argv):
        raise AssertionError("the program must not run")

    assert program(main, "--help") == 0
    text = capsys.readouterr().out
    assert text.startswith("Command lines: overrides of a config")  # of this module
    assert program(main, "--help", doc="One of several commands of a module.") == 0
    assert capsys.readouterr().out.startswith("One of several commands of a module.")
    assert "--config:" in text and "config/schema.py" in text


def test_other_exceptions_are_not_caught(program, file):
    def main(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        program(main, f"--config={file}")


def test_run_returns_the_status_of_main(program, file):
    assert program(lambda argv: 130, f"--config={file}") == 130
    assert program(lambda argv: None, f"--config={file}") is None


def test_cpu_devices_must_be_positive(file, command):
    config = command(f"--config={file}", "--config.cpu_devices=0")
    with pytest.raises(ConfigError, match="config.cpu_devices=0 must be 1 or more"):
        cli.start_jax(config)


def test_a_misspelled_config_file_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no config file .*domian\.py; nearest: .*domain\.py"):
        arguments.parse(["x", "--config=configs/finetune/domian.py"])


@pytest.fixture
def defined(monkeypatch):
    """The flags of a command, `module:function` behind `clipa_jax.`, without running it."""
    values = flags.FlagValues()
    for module in (flags, config_flags):
        for name in filter(re.compile("DEFINE_(?!flag)").match, dir(module)):
            define = functools.partial(getattr(module, name), flag_values=values)
            monkeypatch.setattr(module, name, define)
    monkeypatch.setattr(cli, "run", lambda *args, **options: None)

    def define_all(command: str) -> flags.FlagValues:
        module, _, function = command.partition(":")
        getattr(importlib.import_module(f"clipa_jax.{module}"), function or "start")()
        return values

    return define_all


@pytest.mark.parametrize(
    "command, flag, verb",
    [
        ("benchmark.photos", "out", "writes"),
        ("commands.captions:start_count_words", "out", "writes"),
        ("commands.captions:start_train_vocab", "out", "writes"),
        ("commands.convert:start_export", "out", "writes"),
        ("commands.convert:start_from_torch", "checkpoint", "reads"),
        ("commands.convert:start_from_torch", "out", "writes"),
        ("commands.convert:start_to_torch", "out", "writes"),
        ("commands.export_webdataset", "out", "writes"),
        ("commands.inspect", "out", "writes"),
        ("commands.interpolate", "out", "writes"),
        ("commands.prepare", "scores", "reads"),
        ("commands.push_to_hub", "folder", "reads"),
        ("commands.search", "embeddings", "reads"),
        ("commands.search", "out", "writes"),
        ("embed", "out", "writes"),
    ],
)
def test_an_address_is_refused_where_a_command_knows_disks_alone(defined, command, flag, verb):
    values = defined(command)
    setattr(values, flag, "a/path")
    sentence = rf"--{flag}=gs://bucket/W: this command {verb} .* disk; .*gcloud storage cp -r"
    with pytest.raises(flags.IllegalFlagValueError, match=sentence):
        setattr(values, flag, "gs://bucket/W")


@pytest.mark.parametrize(
    "command, flag",
    [
        ("commands.collect", "out"),
        ("commands.convert:start_export", "checkpoint"),
        ("commands.convert:start_to_torch", "checkpoint"),
        ("commands.prepare", "out"),
        ("commands.push_to_hub", "workdir"),
        ("commands.report", "out"),
        ("evaluate", "out"),
    ],
)
def test_an_address_is_taken_where_a_command_reads_or_writes_buckets(defined, command, flag):
    values = defined(command)
    setattr(values, flag, "gs://bucket/W")
    assert values[flag].value == "gs://bucket/W"
