"""WAV files whose header does not tell the truth about their length."""

import struct

import numpy as np
import pytest
import soundfile

from speechft.corpora import load_audio
from speechft.corpora.inspection import inspect_recording

FRAMES = 16_000
UNKNOWN = {"ffmpeg": 0xFFFFFFFF, "sox": 0x7FFFF000, "arecord": 0x7FFFFF00, "zero": 0, "less the header": 0xFFFFFFFF - 44}


def tone():
    return (0.3 * np.sin(np.arange(FRAMES) * 0.05)).astype(np.float32)


@pytest.fixture
def wav(folder):
    """Write x.wav with these lengths in its header, and `behind` the audio."""

    def write(data, riff=None, *, behind=b"", seen=2 * FRAMES):
        path = folder.samples("x.wav", tone())
        content = bytearray(path.read_bytes())
        place = content.index(b"data")
        content[4:8] = struct.pack("<I", len(content) - 8 if riff is None else riff)
        content[place + 4 : place + 8] = struct.pack("<I", data)
        path.write_bytes(bytes(content[: place + 8 + seen]) + behind)
        return path

    return write


def found(path):
    """The number of samples, which decoding and the header alone must agree on, or the complaint."""
    facts = [inspect_recording(path, None, decode=decode) for decode in (True, False)]
    values = [fact if isinstance(fact, str) else fact.num_samples for fact in facts]
    assert values[0] == values[1]
    return values[0]


@pytest.mark.parametrize("data", UNKNOWN.values(), ids=UNKNOWN)
@pytest.mark.parametrize("riff", [None, 0, 0xFFFFFFFF, 0x7FFFF024])
def test_streams_are_read_to_their_end(wav, data, riff):
    assert found(wav(data, riff)) == FRAMES


@pytest.mark.parametrize("kind", [b"RF64", b"BW64"])
@pytest.mark.parametrize("size", [2 * FRAMES, 0, 0xFFFFFFFF, 2**64 - 1])
def test_long_wav_files_and_streams(folder, kind, size):
    path = folder.samples("x.wav", tone(), format="RF64")
    content = bytearray(path.read_bytes())
    sizes = content.index(b"ds64") + 8
    content[:4] = kind
    content[sizes + 8 : sizes + 16] = struct.pack("<Q", size)
    path.write_bytes(content)
    assert found(path) == FRAMES
    path.write_bytes(content[:-FRAMES])
    assert found(path) == FRAMES // 2 if size != 2 * FRAMES else "is cut off" in found(path)


def test_whoever_reads_a_stream_finds_the_same_samples(folder, wav, tmp_path):
    intact = soundfile.read(wav(2 * FRAMES))[0]
    wav(0, 0)
    (cut,) = folder.corpus("path,split", "x.wav,train").prepare()[1]["train"]
    assert np.array_equal(load_audio(cut).numpy(), intact.astype(np.float32))
    assert np.array_equal(load_audio(cut, 9000, 100).numpy(), intact[9000:9100].astype(np.float32))
    folder.table("mixture,path,speaker,split,offset\nm,x.wav,anna,train,0\n")
    folder.prepare("mixed", kind="mixtures")
    assert np.abs(soundfile.read(tmp_path / "mixed/audio/m.flac")[0] - intact).max() < 1e-4


@pytest.mark.parametrize("riff", [None, 0, 0xFFFFFFFF, FRAMES + 36])
def test_less_or_more_audio_than_stated_is_damage(wav, riff):
    assert "16000 bytes that are not a chunk after the 16000 bytes of audio" in found(wav(FRAMES, riff))
    assert "is cut off" in found(wav(4 * FRAMES, riff))


def test_what_may_stand_behind_the_audio(wav):
    chunk = b"LIST\4\0\0\0abcd"
    for behind in (chunk, chunk + chunk, b"\0" * 512, b"ID3\4" + bytes(range(200)), b"odd"):
        assert found(wav(2 * FRAMES, behind=behind)) == FRAMES
    assert found(wav(2 * FRAMES - 2, seen=2 * FRAMES - 2, behind=chunk)) == FRAMES - 1
    assert found(wav(0, 36, seen=0)).endswith("contains no samples")
    assert found(wav(0, 0, seen=0, behind=chunk)).endswith("contains no samples")


def test_a_flac_stream_is_named(folder):
    path = folder.samples("x.flac", tone(), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert "does not state its length" in found(path)
