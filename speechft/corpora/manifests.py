"""Manifests: gzipped JSON, one line per cut, written so that equal content gives equal bytes."""

from __future__ import annotations

import gzip
import io
import json
import sys
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.serialization import deserialize_item
from lhotse.utils import asdict_nonull

from speechft.conventions import MANIFEST_SUFFIX, Manifests
from speechft.corpora.inspection import RecordingFacts
from speechft.corpora.unchanged import check_content, check_recordings
from speechft.corpora.utterances import Utterance
from speechft.errors import CorpusError
from speechft.files.text import decode, nfc


def cut_values(utterance: Utterance, facts: RecordingFacts) -> dict[str, Any]:
    """Return the JSON of the `MonoCut` of an utterance, with one supervision, or with one per turn if the utterance has turns."""
    duration = facts.num_samples / facts.sampling_rate
    whole = facts.num_samples if facts.of_samples is None else facts.of_samples
    recording_id, channels = utterance.id if facts.of_samples is None else facts.path.stem, list(range(facts.num_channels))
    ours = {key: value for key, value in (("label", utterance.label), ("relevant", utterance.relevant)) if value is not None}
    phones = [[label, start, round(end - start, 6), None] for label, start, end in utterance.phones or ()]
    common = {"channel": facts.channel}
    said: dict[str, Any] = {"text": utterance.text, "speaker": utterance.speaker, "custom": {**utterance.labels, **ours} or None}
    said |= {"alignment": {"phone": phones} if phones else None}
    supervision = {"id": utterance.id, "recording_id": recording_id, "start": 0.0, "duration": duration, **common, **_filled(said)}
    turns = [
        {
            "id": f"{utterance.id}-{number:04d}",
            "recording_id": utterance.id,
            "start": turn.start,
            "duration": turn.duration,
            "speaker": turn.speaker,
            **common,
        }
        for number, turn in enumerate(utterance.turns)
    ]
    recording = {
        "id": recording_id,
        "sources": [{"type": "file", "channels": channels, "source": str(facts.path.absolute())}],
        "sampling_rate": facts.sampling_rate,
        "num_samples": whole,
        "duration": whole / facts.sampling_rate,
        "channel_ids": channels,
    }
    return {
        "id": utterance.id,
        "start": facts.first_sample / facts.sampling_rate,
        "duration": duration,
        "supervisions": turns or [supervision],
        "recording": recording,
        **({} if utterance.fold is None else {"custom": {"fold": utterance.fold}}),
        **common,
        "type": "MonoCut",
    }


def _filled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def make_cut(utterance: Utterance, facts: RecordingFacts) -> Any:
    """Return the lhotse `MonoCut` of an utterance in its inspected recording."""
    return deserialize_item(cut_values(utterance, facts))


_FIELDS = {kind: [field.name for field in fields(kind)] for kind in (MonoCut, Recording, AudioSource, SupervisionSegment)}


def values_of(cut: Any) -> Any:
    """Return the JSON of a `MonoCut` with a recording: equal to `cut.to_dict()`, without the copies that take most of its time."""
    given = (value for owner in (cut, *cut.supervisions) for value in (owner.custom or {}).values())
    if cut.features is not None or cut.recording.transforms is not None or not all(isinstance(value, str) for value in given):
        return cut.to_dict()
    return {**_plain(cut), "type": "MonoCut"}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if (names := _FIELDS.get(type(value))) is None:
        return asdict_nonull(value) if is_dataclass(value) else value
    return {name: _plain(item) for name in names if (item := getattr(value, name)) is not None}


def write_manifest(path: Path, cuts: Iterable[Any]) -> None:
    """Write the JSON of cuts, in order. Unlike lhotse's writer, put no time into the gzip header."""
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file:
        for cut in cuts:
            file.write((json.dumps(cut, ensure_ascii=False, sort_keys=True) + "\n").encode())


def evenly(cuts: Sequence[Any], count: int) -> list[Any]:
    """Choose at most `count` cuts, evenly spaced over the list, since neighbors often share a speaker."""
    chosen = min(count, len(cuts))
    return [cuts[index * len(cuts) // chosen] for index in range(chosen)]


def split_names(manifests: Manifests) -> tuple[str, ...]:
    """Return the splits that have a manifest."""
    if isinstance(manifests, Mapping):
        return tuple(manifests)
    return tuple(path.name.removesuffix(MANIFEST_SUFFIX) for path in sorted(Path(manifests).glob(f"*{MANIFEST_SUFFIX}")))


def load_split(manifests: Manifests, split: str) -> CutSet:
    """Read one split into memory.

    Args:
        manifests: output directory of `prepare_corpus`, or split -> manifest file.
        split: "train", "dev" or "test".

    Returns:
        A list-backed `CutSet` of `MonoCut`, in the order of the corpus.

    Raises:
        CorpusError: the split does not exist, its manifest is missing or damaged, or the manifest or a recording has changed since
            `speechft prepare`.
    """
    path = _manifest_path(manifests, split)
    raw = _content(path, split)
    cuts = [_parse_cut(line, f"{path}, line {number}") for number, line in enumerate(_lines(raw), start=1) if line.strip()]
    if not cuts:
        raise CorpusError(f"{path}: the manifest of split {split!r} has no cuts. Delete it and prepare the corpus again.")
    check_content(path, raw)
    check_recordings(path, (source.source for cut in cuts for source in cut.recording.sources if source.type == "file"))
    return CutSet.from_cuts(cuts)


def _content(path: Path, split: str) -> bytes:
    """Return the bytes of a manifest after checking that they decompress to the end."""
    try:
        raw = path.read_bytes()
        deque(_lines(raw), maxlen=0)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: damaged manifest of split {split!r} ({error}). Delete it and prepare the corpus again.") from None
    return raw


def _lines(raw: bytes) -> Iterator[str]:
    """Yield one line at a time: as a single text, a manifest takes as much memory as its cuts. Foreign manifests may be uncompressed."""
    file = io.BytesIO(raw)
    yield from map(decode, gzip.GzipFile(fileobj=file) if raw.startswith(b"\x1f\x8b") else file)


def _manifest_path(manifests: Manifests, split: str) -> Path:
    source, folder = ("the given manifests", None) if isinstance(manifests, Mapping) else (str(manifests), Path(manifests))
    if folder is not None and not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder, needed for its {split}{MANIFEST_SUFFIX}. Create it with `speechft prepare`.")
    names = split_names(manifests)
    if split not in names:
        raise CorpusError(f"{source}: no split {split!r} ({split}{MANIFEST_SUFFIX}). Splits there: {', '.join(names) or 'none'}.")
    path = Path(manifests[split]) if isinstance(manifests, Mapping) else Path(manifests, f"{split}{MANIFEST_SUFFIX}")
    if not path.is_file():
        raise CorpusError(f"{path}: no such file, needed as the manifest of split {split!r}. Create it with `speechft prepare`.")
    return path


def _with_equal_names(value: Any) -> Any:
    """Normalize all names in a cut's JSON to Unicode NFC, except `sources`, which name files."""
    if isinstance(value, dict):
        return {key: item if key == "sources" else _with_equal_names(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_equal_names(item) for item in value]
    return nfc(value) if isinstance(value, str) else value


def _parse_cut(line: str, where: str) -> Any:
    try:
        values = json.loads(line)
        # Foreign manifests may spell a name in two Unicode forms.
        cut = deserialize_item(values if line.isascii() and "\\u" not in line else _with_equal_names(values))
        if recorded := isinstance(cut, MonoCut) and cut.has_recording:
            _share_texts(cut)
    except Exception as error:  # lhotse raises whatever its constructors do
        raise CorpusError(f"{where}: not a lhotse cut ({type(error).__name__}: {error}). Prepare the corpus again.") from None
    if not recorded:
        raise CorpusError(f"{where}: {type(cut).__name__}, not a MonoCut with a recording. Prepare the corpus again.")
    return cut


def _share_texts(cut: MonoCut) -> None:
    """Intern equal strings, which saves a quarter of a cut's memory."""

    def shared(text: Any) -> Any:
        return sys.intern(text) if type(text) is str else text

    recording = cut.recording
    cut.id, recording.id = shared(cut.id), shared(recording.id)
    for source in recording.sources:
        source.type = shared(source.type)
    for turn in cut.supervisions:
        turn.id, turn.recording_id, turn.speaker = shared(turn.id), shared(turn.recording_id), shared(turn.speaker)
        turn.custom = {shared(key): shared(value) for key, value in turn.custom.items()} if turn.custom is not None else None
