"""Models of the Hugging Face Hub by name, against a server on this machine."""

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from downloads.hub_server import COMMIT, TOKEN, Hub
from huggingface_hub import constants
from safetensors.torch import load_file

from speechft.downloads.hub import is_repository
from speechft.encoders import export_checkpoint, import_checkpoint, inspect_checkpoint, load_encoder, random_encoder
from speechft.encoders.checkpoints.exporting import export_to_hub
from speechft.errors import CheckpointError, DownloadError
from speechft.files.hashes import sha256_file
from speechft.files.structured import read_json
from speechft.merge import merge

NAME = "lab/hubert-tiny"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return random_encoder("hubert", tmp_path_factory.mktemp("model") / "hubert", seed=3)


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    """What users of transformers upload: configuration and weights, without our side files."""
    out = tmp_path_factory.mktemp("upload") / "folder"
    export_checkpoint(encoder, out, "transformers")
    return {name: (out / name).read_bytes() for name in ("config.json", "model.safetensors")}


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    files = {**folder, "README.md": b"# A model", "modeling.py": b"raise SystemExit(9)"}
    state = {"repositories": {NAME: files}, "private": set(), "asked": [], "blobs": {}, "cut": {}}
    handler = type("Handler", (Hub,), state)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handler.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    reach(monkeypatch, handler.url)
    monkeypatch.chdir(tmp_path)
    yield handler
    server.shutdown()
    server.server_close()


def reach(monkeypatch, url, *, token=None, offline=False):
    """Direct huggingface_hub, which reads its variables when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)


def test_a_repository_is_downloaded_once(hub, encoder, monkeypatch):
    import_checkpoint(NAME, "first")
    assert sha256_file("first/model.safetensors") == sha256_file(encoder / "model.safetensors")
    assert read_json("first/provenance.json")["recipe"]["repository"] == f"{NAME}@{COMMIT}"
    assert not [line for line in hub.asked if "modeling.py" in line or "README" in line], "code is never downloaded"
    hub.asked.clear()
    import_checkpoint(f"{NAME}@v1", "again")
    assert not [line for line in hub.asked if line.startswith("GET") and line.endswith("safetensors")], "weights come from the cache"
    reach(monkeypatch, NOWHERE, offline=True)
    import_checkpoint(NAME, "offline")


def test_a_repository_stands_wherever_an_encoder_does(hub):
    merge(NAME, random_encoder("hubert", "tuned", seed=4), "merged")
    assert read_json("merged/provenance.json")["inputs"]["base"]["name"] == f"{NAME}@{COMMIT}"
    assert inspect_checkpoint(NAME)["family"] == load_encoder(NAME).backbone.config.model_type == "hubert"


def test_pickles_come_through_the_allow_list(hub, encoder, tmp_path):
    tensors = load_file(encoder / "model.safetensors")
    for name, content in (("pickled", tensors), ("unsafe", {**tensors, "x": Path("x")})):
        torch.save(content, tmp_path / "weights.bin")
        config = hub.repositories[NAME]["config.json"]
        hub.repositories[f"lab/{name}"] = {"config.json": config, "pytorch_model.bin": (tmp_path / "weights.bin").read_bytes()}
    import_checkpoint("lab/pickled", "pickled")
    with pytest.raises(CheckpointError, match="pathlib"):
        import_checkpoint("lab/unsafe", "unsafe")
    assert not Path("unsafe").exists()


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("lab/nothing", {}, "no such repository on the Hub, or it is private"),
        (f"{NAME}@v9", {}, "the repository has no such revision"),
        (NAME, {"token": "hf_bad"}, "refuses the token"),
        (NAME, {"url": NOWHERE}, "the Hub cannot be reached"),
        (NAME, {"offline": True}, "HF_HUB_OFFLINE is set"),
        ("lab/code-only", {}, "has no weights written by transformers or peft \\(it contains model.py\\)"),
    ],
)
def test_what_is_wrong_is_one_sentence(hub, monkeypatch, name, settings, said):
    hub.repositories["lab/code-only"] = {"model.py": b""}
    reach(monkeypatch, **{"url": hub.url, **settings})
    with pytest.raises(DownloadError, match=said):
        import_checkpoint(name, "out")
    assert not Path("out").exists()


def test_a_path_is_no_repository_where_its_folder_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    assert is_repository("facebook/hubert-base-ls960")
    for path in ("models/hubert", "checkpoints/hubert_base_ls960.pt", "a/b/c", "hubert"):
        assert not is_repository(path)


def test_an_encoder_is_uploaded_with_its_card_and_comes_back_the_same(hub, encoder, monkeypatch):
    reach(monkeypatch, hub.url, token=TOKEN)
    assert export_to_hub(encoder, "lab/mine", private=True) == f"{hub.url}/lab/mine"
    assert "lab/mine" in hub.private
    assert b"library_name: transformers" in hub.repositories["lab/mine"]["README.md"]
    import_checkpoint("lab/mine", "back")
    assert sha256_file("back/model.safetensors") == sha256_file(encoder / "model.safetensors")
    export_to_hub(encoder, "lab/mine")  # what speechft wrote is replaced
    with pytest.raises(DownloadError, match="which speechft did not write"):
        export_to_hub(encoder, NAME)
    reach(monkeypatch, hub.url, token="hf_bad")
    with pytest.raises(DownloadError, match="hf auth login"):
        export_to_hub(encoder, "lab/new")


def test_a_download_that_was_cut_off_goes_on(hub):
    hub.cut["model.safetensors"] = 1000
    import_checkpoint(NAME, "out")


def test_the_command_line_takes_names(hub):
    given = {"HF_ENDPOINT": hub.url, "HF_HOME": "home", "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    for arguments in (["import", NAME, "--out", "out"], ["export", "out", "--to-hub", "lab/mine"]):
        command = [sys.executable, "-m", "speechft.cli", *arguments]
        done = subprocess.run(command, env=os.environ | given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert done.stdout == f"{hub.url}/lab/mine\n"
