import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import gcs_utils

from clipa_jax.config import evals
from clipa_jax.errors import ConfigError, MissingData
from clipa_jax.evaluators import catalogue, class_names, labels, prompts

LISTED = class_names.asset("datasets")["datasets"]


def choose(dataset, root="", source=None, task=catalogue.CLASSIFICATION, split=None):
    config = catalogue.DataConfig(dataset=dataset, root=root, source=source, split=split)
    return catalogue.entry(config, "", "x", task)


def names(task):
    return [name for name, known in LISTED.items() if known["task"] == task]


def test_every_set_has_its_sentences_and_names():
    for name in names(catalogue.CLASSIFICATION):
        entry = choose(name, source="clip_benchmark:/data/x")
        assert prompts.templates(entry.templates)
        if entry.classes is not None:
            assert len(class_names.classes(entry.classes).names) > 1
        assert entry.metric in ("accuracy", "mean_average_precision")
        assert entry.naming in catalogue.NAMINGS


def test_the_configs_have_every_set():
    listed = {*evals.IMAGENET, *evals.VTAB, *evals.OTHERS}
    assert listed == set(names(catalogue.CLASSIFICATION))
    assert set(evals.RETRIEVAL) == set(names(catalogue.RETRIEVAL))
    # All for which CLIP_benchmark has sentences, but the dummy; caltech101 in VTAB's splits.
    assert set(class_names.named("en", "templates")) - {"dummy"} <= listed


def test_the_first_place_that_is_there_is_taken(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(catalogue.sources, "open", lambda source, split: None)  # prepared
        assert choose("cifar10").source == "tfds:cifar10"
        assert choose("cifar10", str(tmp_path)).source == "tfds:cifar10"
    for folder in ("wds_vtab-cifar10", "wds/vtab/cifar10", "vtab/cifar10"):
        (tmp_path / folder / "test").mkdir(parents=True)
        entry = choose("cifar10", f"{tmp_path}/")
        assert entry.source == f"clip_benchmark:{tmp_path}/{folder}"
        assert (entry.split, entry.label, entry.train_split) == ("test", "cls", "train")
    (tmp_path / "imagenet").mkdir()
    entry = choose("imagenet", str(tmp_path))
    assert entry.source == f"class_folders:{tmp_path}/imagenet"
    assert (entry.split, entry.label, entry.classes) == ("val", "label", "imagenet1k")


def test_a_folder_of_classes_may_have_the_name_of_clip_benchmark(tmp_path):
    (tmp_path / "imagenet-a" / "n01498041").mkdir(parents=True)
    entry = choose("imagenet_a", str(tmp_path))
    assert (entry.source, entry.split) == (f"class_folders:{tmp_path}/imagenet-a", "all")


def test_the_config_s_folder_counts_where_the_evaluator_has_none(tmp_path):
    (tmp_path / "gtsrb" / "test").mkdir(parents=True)
    config = catalogue.DataConfig(dataset="gtsrb")
    entry = catalogue.entry(config, str(tmp_path), "x", catalogue.CLASSIFICATION)
    assert entry.source == f"clip_benchmark:{tmp_path}/gtsrb"
    config = catalogue.DataConfig(dataset="gtsrb", root="")
    with pytest.raises(MissingData):
        catalogue.entry(config, str(tmp_path), "x", catalogue.CLASSIFICATION)


def test_what_is_nowhere_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(MissingData, match="names no folder with datasets"):
        choose("gtsrb")
    with pytest.raises(MissingData, match=f"looked for {tmp_path}/gtsrb, .*wds_gtsrb") as missing:
        choose("gtsrb", str(tmp_path))
    assert missing.value.dataset == "gtsrb"
    assert missing.value.command.startswith("clip_benchmark_export_wds --dataset gtsrb")
    with pytest.raises(MissingData, match="tfds build imagenet_a") as missing:
        choose("imagenet_a")
    assert missing.value.looked.endswith("dataset_info.json")
    with pytest.raises(MissingData, match=f"{tmp_path}/imagenet-a, .*dataset_info.json") as missing:
        choose("imagenet_a", str(tmp_path))
    assert missing.value.command.endswith(f"--output {tmp_path}/imagenet-a")


def test_names_are_forgiving_and_tasks_are_not():
    assert choose("imagenet-a", source="tfds:imagenet_a").classes == "imagenet_a"
    with pytest.raises(ConfigError, match="unknown dataset 'cifar11'; nearest: cifar10"):
        choose("cifar11")
    with pytest.raises(ConfigError, match="'coco' is for retrieval, not for classification"):
        choose("coco")
    entry = choose("coco", source="tfds:coco_captions", task=catalogue.RETRIEVAL)
    assert (entry.source, entry.split) == ("tfds:coco_captions", "test")
    assert (entry.captions, entry.least) == (range(5), 5)


def test_a_given_source_takes_the_layout_of_its_kind():
    entry = choose("voc2007_multilabel", source="clip_benchmark:/data/voc")
    assert (entry.label, entry.metric) == ("npy", "mean_average_precision")
    entry = choose("voc2007_multilabel", source="tfds:voc/2007")
    assert entry.label == "labels"
    entry = choose(None, source="class_folders:/data/mine")
    assert (entry.label, entry.split) == ("label", "all")


def test_objectnet_from_its_own_folder(tmp_path):
    (tmp_path / "objectnet-1.0" / "images").mkdir(parents=True)
    mappings = tmp_path / "objectnet-1.0" / "mappings"
    mappings.mkdir()
    (mappings / "folder_to_objectnet_label.json").write_text('{"a_b": "A b", "c": "C"}')
    (mappings / "objectnet_to_imagenet_1k.json").write_text('{"C": "thing"}')
    entry = choose("objectnet", str(tmp_path))
    assert entry.source == f"class_folders:{tmp_path}/objectnet-1.0/images"
    assert (entry.split, entry.outside) == ("all", "leave_out")
    assert entry.classes == class_names.Classes(("c",), ("c",))


def test_namings():
    assert catalogue.NAMINGS["blanks"]("apple_pie") == "apple pie"
    own = ["/a/abbey", "/a/apartment_building/outdoor"]
    assert [*map(catalogue.NAMINGS["paths"], own)] == ["abbey", "apartment building outdoor"]


IN_TFDS = {
    name: entry["layouts"]["tfds"]
    for name, entry in LISTED.items()
    if entry["task"] == catalogue.CLASSIFICATION and "tfds" in entry["layouts"]
}


@pytest.mark.parametrize("name", IN_TFDS)
def test_labels_of_tfds_fit_the_tables(name, tmp_path, monkeypatch):
    """The names in TFDS's own code, without its data."""
    monkeypatch.setattr(gcs_utils, "_is_gcs_disabled", True)
    layout = IN_TFDS[name]
    info = tfds.builder(layout["name"], data_dir=tmp_path, try_gcs=False).info
    feature = info.features[layout.get("label", "label")]
    own = getattr(feature, "feature", feature).names
    classes = choose(name, source=f"tfds:{layout['name']}").classes
    if classes is None:
        assert len(own) == len(set(own)) > 1  # they are the classes
        return
    fits = labels.fit(class_names.classes(classes), own)
    if name in ("imagenet_a", "imagenet_r"):  # numbered among all classes of ImageNet
        assert sorted(fits[fits != labels.OUTSIDE]) == list(range(200))
    else:
        assert fits.tolist() == list(range(len(own)))


def test_names_decide_whatever_their_order():
    table = class_names.classes("pets")
    shuffled = [table.names[1], table.names[0], *table.names[2:]]
    assert labels.fit(table, shuffled).tolist()[:3] == [1, 0, 2]
