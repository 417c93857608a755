"""Weights by name, from a hub on the loopback address."""

import json
import time

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants

from clipa_jax.errors import CheckpointError, ConfigError, DataError
from clipa_jax.weights import open_clip_folder, open_weights
from tests.helpers import loopback_hub, random_clip

NAME = "hf-hub:UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Made-up weights as open_clip lays them out."""
    config = random_clip.config(input__res=16)
    path = tmp_path_factory.mktemp("weights") / "torch"
    return random_clip.write_open_clip(path, config, random_clip.weights(config))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub, with an empty cache; sessions of the client do not outlive it."""
    with loopback_hub.serve() as server:
        _point_client_at(server.url, tmp_path / "cache", monkeypatch)
        yield server
    huggingface_hub.close_session()


def _point_client_at(url, cache, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between the client's attempts


def same(a, b):
    assert a.keys() == b.keys()
    for name, leaf in a.items():
        np.testing.assert_array_equal(leaf, b[name], err_msg=name)


def test_weights_come_by_address_and_by_short_name(hub, folder):
    hub.add("UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B", folder)
    weights = open_weights(NAME)
    assert weights.kind == "open_clip"
    same(weights.read(), open_weights(str(folder)).read())
    before = len(hub.requests)
    same(open_weights("clipa-l14-datacomp1b").read(), weights.read())
    again = {(method, path) for method, path, _ in hub.requests[before:] if method == "GET"}
    assert not any("/resolve/" in path or "/storage/" in path for _, path in again)


def ranges(hub):
    return [range_ for _, path, range_ in hub.requests if path.startswith("/storage")]


def test_a_connection_that_is_cut_off_is_taken_up_where_it_stopped(hub, folder, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1_000)  # of 10 MB
    hub.add("UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B", folder, cut=5_000, cuts=2)
    same(open_weights(NAME).read(), open_weights(str(folder)).read())
    assert ranges(hub) == ["", "bytes=5000-", "bytes=5000-"]


def test_a_download_that_fails_leaves_nothing_that_is_taken_for_the_file(hub, folder):
    repository = hub.add("UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B", folder, cut=5_000, cuts=100)
    with pytest.raises(DataError, match="is incomplete in the cache.*the download failed"):
        open_weights(NAME)
    with pytest.raises(DataError, match="is incomplete in the cache.*the download failed"):
        open_weights(NAME)
    repository.cuts = 0
    same(open_weights(NAME).read(), open_weights(str(folder)).read())


def test_a_revision_is_taken_or_named_if_it_does_not_exist(hub, folder):
    hub.add("UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B", folder)
    assert open_weights(f"{NAME}@v1").config.model.image.gelu == "tanh"
    with pytest.raises(DataError, match="has no branch, tag or commit v2"):
        open_weights(f"{NAME}@v2")


@pytest.mark.parametrize(
    "address,words",
    [
        ("hf-hub:nobody/nothing", "there is no repository .*/nobody/nothing"),
        ("hf-hub:a//b", "expected hf-hub:OWNER/NAME"),
    ],
)
def test_an_address_without_a_repository_is_refused(hub, address, words):
    with pytest.raises(DataError, match=words):
        open_weights(address)


def test_a_gated_repository_needs_a_token(hub, folder, monkeypatch):
    hub.add("apple/gated", folder, gated=True)
    with pytest.raises(DataError, match="is gated: accept its conditions on .*/apple/gated"):
        open_weights("hf-hub:apple/gated")
    monkeypatch.setenv("HF_TOKEN", "good")
    assert open_weights("hf-hub:apple/gated").config.input.res == 16


@pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE", "no network"])
def test_without_network_the_cache_is_used(hub, folder, monkeypatch, tmp_path, switch):
    hub.add("UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B", folder)
    expected = open_weights(NAME).read()
    if switch == "HF_HUB_OFFLINE":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        _point_client_at("http://127.0.0.1:1", tmp_path / "cache", monkeypatch)
    huggingface_hub.close_session()
    before = len(hub.requests)
    same(open_weights(NAME).read(), expected)
    assert len(hub.requests) == before
    with pytest.raises(DataError, match="is incomplete in the cache"):
        open_weights("clipa-h14-datacomp1b")


def test_safetensors_are_preferred_and_nothing_else_is_downloaded(hub, folder):
    repository = hub.add("someone/clip", folder)
    repository.files |= {"open_clip_pytorch_model.bin": b"x" * 20_000, "README.md": b"#"}
    open_weights("hf-hub:someone/clip").read()
    paths = {path.rpartition("/")[2] for _, path, _ in hub.requests}
    assert paths == {"main", open_clip_folder.CONFIG, open_clip_folder.WEIGHTS}


def test_a_repository_without_weights_is_refused(hub):
    hub.repositories["someone/empty"] = loopback_hub.Repository({"README.md": b"#"})
    with pytest.raises(
        CheckpointError, match=r"someone/empty has README\.md, but no open_clip_model"
    ):
        open_weights("hf-hub:someone/empty")


def test_released_names_have_the_numerics_of_their_training(hub, folder):
    hub.add("UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B", folder)
    content = json.loads((folder / open_clip_folder.CONFIG).read_text())
    for section in ("vision_cfg", "text_cfg"):  # as the released files have it
        del content["model_cfg"][section]["norm_kwargs"]
        del content["model_cfg"][section]["act_kwargs"]
    files = hub.repositories["UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B"].files
    files[open_clip_folder.CONFIG] = json.dumps(content).encode()
    for path in (NAME, "clipa-l14-datacomp1b"):
        for numerics, gelu, epsilon in (("", "tanh", 1e-6), ("open_clip", "exact", 1e-5)):
            model = open_weights(path, numerics).config.model
            assert (model.image.gelu, model.image.norm_eps) == (gelu, epsilon)
            assert (model.text.gelu, model.text.norm_eps) == (gelu, epsilon)
    with pytest.raises(ConfigError, match="unknown numerics 'clip'"):
        open_weights(NAME, "clip")
