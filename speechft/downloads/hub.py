"""Download and upload models on the Hugging Face Hub (`org/name` or `org/name@revision`) with huggingface_hub.

Cache, resumed downloads, login and `HF_HUB_OFFLINE` work as in transformers. Only configuration and weights are downloaded, never code;
safetensors are preferred.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from speechft.errors import DownloadError
from speechft.recipes.modules import refuse_class

_REPOSITORY = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w.-][\w./-]*))?")
_SNAPSHOT = re.compile(r"models--(?P<name>.+)/snapshots/(?P<commit>[0-9a-f]{40})$")
_FILE = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".json", ".yaml", ".csv")
"""Suffixes of names that mean a file, not a repository, even if it does not exist."""
_SETTINGS = ("config.json", "preprocessor_config.json", "adapter_config.json", "provenance.json", "source_config.json")
_WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors", "pretraining_only.safetensors"),
    ("adapter_model.safetensors",),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"),
    ("adapter_model.bin",),
)
"""Sets of weight files; the first that the repository has is downloaded."""


def is_repository(source: str | Path) -> bool:
    """Whether `source` can only be a repository: neither the path nor its parent folder exists."""
    text = str(source)
    if not _REPOSITORY.fullmatch(text) or text.lower().endswith(_FILE):
        return False
    return not Path(text).exists() and not Path(text).parent.exists()


def repository_of(snapshot: Path) -> str | None:
    """Return `org/name@commit` for a folder in huggingface_hub's cache; None for any other folder."""
    match = _SNAPSHOT.search(snapshot.absolute().as_posix())
    return f"{match['name'].replace('--', '/')}@{match['commit']}" if match else None


def local_path(source: str | Path) -> Path:
    """Return `source` as a local path; a repository is downloaded first, see `fetch_repository`.

    Raises:
        CheckpointError: `source` is a frozen model of the user's own.
    """
    refuse_class(source)
    return fetch_repository(source) if is_repository(source) else Path(source)


def fetch_repository(source: str | Path) -> Path:
    """Download configuration and weights of a repository, or find them in the cache.

    Args:
        source: `org/name` (main branch), or `org/name@revision` with a branch, tag or commit.

    Returns:
        Their folder in huggingface_hub's cache.

    Raises:
        DownloadError: unknown repository or revision, no network, token missing or refused, or no weights in the repository.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE

    match = _REPOSITORY.fullmatch(str(source))
    if match is None:
        raise DownloadError(f"{source}: is not the name of a repository. Write `org/name` or `org/name@revision`.")
    name, revision = match["name"], match["revision"]
    with _explained(str(source)):
        if HF_HUB_OFFLINE:
            return _cached(name, revision)
        info = HfApi().model_info(name, revision=revision)
        wanted = _wanted(str(source), [file.rfilename for file in info.siblings or ()])
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))


def _cached(name: str, revision: str | None) -> Path:
    """Find the folder in the cache with a complete set of weights."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    for patterns in _WEIGHTS:
        with suppress(LocalEntryNotFoundError):
            wanted = [*patterns, *_SETTINGS]
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted, local_files_only=True))
            if any(file for pattern in patterns for file in folder.glob(pattern)):
                return folder
    raise LocalEntryNotFoundError(name)


def upload(folder: Path, name: str, *, private: bool = False) -> str:
    """Upload an encoder directory to a repository, which is created if needed; return its URL.

    Args:
        folder: output of `export_checkpoint(..., format="transformers")`, including the model card.
        name: `org/name`.
        private: whether a created repository is private.

    Raises:
        DownloadError: no network, token missing or refused, or the repository contains something else.
    """
    from huggingface_hub import HfApi

    if not _REPOSITORY.fullmatch(name) or "@" in name:
        raise DownloadError(f"{name}: is not the name of a repository. Write `org/name`.")
    api = HfApi()
    with _explained(name):
        address = api.create_repo(name, private=private, exist_ok=True)
        there = set(api.list_repo_files(name)) - {".gitattributes"}
        if there and "provenance.json" not in there:
            listed = ", ".join(sorted(there)[:3])
            raise DownloadError(f"{name}: contains {listed}, which speechft did not write, so it is not replaced. Name another repository.")
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Encoder by speechft", ignore_patterns=[".speechft.json"])
    return str(address)


def _wanted(name: str, files: Sequence[str]) -> list[str]:
    """Select the files to download.

    Raises:
        DownloadError: the repository has no weights.
    """
    for patterns in _WEIGHTS:
        if weights := [file for file in files if any(fnmatch.fnmatchcase(file, pattern) for pattern in patterns)]:
            return [*weights, *(file for file in files if file in _SETTINGS)]
    listed = ", ".join(sorted(files)[:5]) or "nothing"
    raise DownloadError(
        f"{name}: has no weights written by transformers or peft (it contains {listed}). Download a file of another layout yourself."
    )


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn errors of huggingface_hub, whose network library depends on its version, into one sentence.

    Raises:
        DownloadError: what happened, and what to do.
    """
    from huggingface_hub import errors

    try:
        yield
    except DownloadError:
        raise
    except errors.RevisionNotFoundError:
        raise DownloadError(f"{name}: the repository has no such revision. Name a branch, a tag or a commit of it.") from None
    except errors.GatedRepoError:
        raise DownloadError(f"{name}: is gated. Request access on the repository's page, then run `hf auth login`.") from None
    except errors.RepositoryNotFoundError:
        raise DownloadError(
            f"{name}: no such file or folder, and no such repository on the Hub, or it is private. Check the name, or run "
            "`hf auth login` with a token that can read it."
        ) from None
    except errors.LocalEntryNotFoundError:
        raise DownloadError(
            f"{name}: no such file or folder, not in the Hub's cache, and there is no network (or HF_HUB_OFFLINE is set). Run "
            "`speechft import` on a machine with a network."
        ) from None
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if status in (401, 403):
            raise DownloadError(f"{name}: the Hub refuses the token ({said}). Run `hf auth login` with one that allows this.") from None
        if status is not None:
            raise DownloadError(f"{name}: the Hub responds with HTTP {status} ({said}). Try again later.") from None
        raise DownloadError(
            f"{name}: no such file or folder, and the Hub cannot be reached ({said}). Check the path and the network."
        ) from None
