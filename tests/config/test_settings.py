"""A config in which nothing is misspelled or ignored."""

import pytest
from ml_collections import ConfigDict

from clipa_jax.config.settings import Settings, choice
from clipa_jax.errors import ConfigError


@pytest.fixture
def settings() -> Settings:
    return Settings(ConfigDict({"seed": 1, "model": {"width": 8, "pool": "gap"}, "rules": (1, 2)}))


def test_reads_by_attribute_and_by_key(settings):
    assert settings.seed == settings["seed"] == 1
    assert settings.model.width == 8
    assert settings.rules == (1, 2)
    assert "seed" in settings and "sead" not in settings
    assert set(settings) == {"seed", "model", "rules"}


def test_a_missing_key_names_the_nearest(settings):
    with pytest.raises(ConfigError, match=r"config\.model\.widht is needed .*nearest: width"):
        _ = settings.model.widht


def test_settings_list_unread_keys(settings):
    everything = {"config.seed", "config.model.width", "config.model.pool", "config.rules"}
    assert set(settings.unread()) == everything
    _ = settings.seed, settings.model.pool
    assert set(settings.unread()) == {"config.model.width", "config.rules"}


def test_in_does_not_read_a_key(settings):
    assert "seed" in settings
    assert "config.seed" in settings.unread()


def test_check_all_read_stops_at_an_ignored_key(settings):
    _ = settings.seed, settings.model.width, settings.rules
    with pytest.raises(ConfigError, match=r"nothing reads config\.model\.pool"):
        settings.check_all_read()
    _ = settings.model.pool
    settings.check_all_read()


def test_as_dict_reads_all_keys(settings):
    expected = {"seed": 1, "model": {"width": 8, "pool": "gap"}, "rules": (1, 2)}
    assert settings.as_dict() == expected
    settings.check_all_read()


def build(width: int, pool: str = "tok", *, depth: int) -> tuple[int, str, int]:
    return width, pool, depth


def test_call_passes_a_section_as_arguments(settings):
    assert settings.model.call(build, depth=3) == (8, "gap", 3)
    assert settings.model.unread() == []


def test_call_skips_given_keys(settings):
    assert settings.model.call(build, skip=("pool",), depth=3) == (8, "tok", 3)


def test_call_refuses_a_key_that_the_function_lacks():
    section = Settings({"width": 8, "pol": "gap"}, "config.model")
    with pytest.raises(ConfigError, match=r"unknown key config\.model\.pol; nearest: pool"):
        section.call(build, depth=3)


def test_call_refuses_a_key_that_the_caller_gives():
    section = Settings({"width": 8, "depth": 1}, "config.model")
    with pytest.raises(ConfigError, match=r"unknown key config\.model\.depth"):
        section.call(build, depth=3)


def test_call_names_a_missing_key():
    section = Settings({"pool": "gap"}, "config.model")
    with pytest.raises(ConfigError, match=r"config\.model\.width is needed"):
        section.call(build, depth=3)


def test_bind_checks_now_and_calls_later(settings):
    bound = settings.model.bind(build, later=("depth",))
    assert settings.model.unread() == []
    assert bound(depth=3) == (8, "gap", 3)
    with pytest.raises(ConfigError, match=r"config\.model\.depth is needed"):
        settings.model.bind(build)


def test_skipped_keys_are_not_read(settings):
    settings.model.bind(build, skip=("pool",), later=("depth",))
    assert settings.model.unread() == ["config.model.pool"]


def test_choice_refuses_unknown_values(settings):
    assert choice(settings.model, "pool", ["gap", "tok"]) == "gap"
    with pytest.raises(ConfigError, match=r"unknown config\.model\.pool 'gap'; nearest: map"):
        choice(settings.model, "pool", ["map", "tok"])


def test_settings_do_not_change_with_the_config():
    config = ConfigDict({"seed": 1})
    settings = Settings(config)
    config.seed = 2
    assert settings.seed == 1
