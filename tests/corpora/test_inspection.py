import numpy as np
import pytest
import soundfile

from speechft.corpora.containers import ogg_checksum
from speechft.corpora.inspection import inspect_recording

FORMATS = {
    "flac16": ("x.flac", {"subtype": "PCM_16"}),
    "flac24": ("x.flac", {"subtype": "PCM_24"}),
    "flac8": ("x.flac", {"subtype": "PCM_S8"}),
    "wav": ("x.wav", {}),
    "wav_float": ("x.wav", {"subtype": "FLOAT"}),
    "opus": ("x.opus", {"format": "OGG", "subtype": "OPUS"}),
    "vorbis": ("x.ogg", {"format": "OGG", "subtype": "VORBIS"}),
}


def noise(frames, channels=1):
    return 0.1 * np.random.default_rng(0).standard_normal((frames, channels))


@pytest.mark.parametrize("name", FORMATS)
def test_intact_recordings_pass_and_damaged_ones_are_found(folder, name):
    file, options = FORMATS[name]
    for channels in (1, 2):
        path = folder.samples(file, noise(40_001, channels), **options)
        facts = inspect_recording(path, channel=channels - 1)
        assert not isinstance(facts, str), facts
        assert (facts.sampling_rate, facts.num_samples, facts.num_channels, facts.channel) == (16_000, 40_001, channels, channels - 1)
    content = path.read_bytes()
    damaged = [content[: int(share * len(content))] for share in (0.05, 0.3, 0.6, 0.95, 0.999)]
    if name in ("flac16", "flac24", "opus", "vorbis"):
        for position in np.random.default_rng(1).integers(300, len(content), 20):
            flipped = bytearray(content)
            flipped[position] ^= 0x10
            damaged.append(flipped)
    for number, part in enumerate(damaged):
        path.write_bytes(part)
        assert isinstance(inspect_recording(path, 0), str), number


def test_flac_whose_samples_are_not_those_of_its_header(folder):
    # Both decode without complaint; only the MD5 tells that the header belongs to other samples.
    path = folder.samples("x.flac", noise(8000), subtype="PCM_16")
    other = folder.samples("y.flac", 0.5 * noise(8000), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[26:42] = other.read_bytes()[26:42]
    path.write_bytes(content)
    assert len(soundfile.read(path)[0]) == 8000
    assert "MD5" in inspect_recording(path, None)
    content[26:42] = bytes(16)  # an encoder that did not compute it
    for tag in (b"", b"ID3\x04\x00\x00\x00\x00\x01\x48" + bytes(200)):
        path.write_bytes(tag + content)
        assert not isinstance(inspect_recording(path, None), str)


def test_lost_ogg_page(folder):
    path = folder.samples("x.opus", noise(160_000), format="OGG", subtype="OPUS")
    content = path.read_bytes()
    starts = [position for position in range(len(content)) if content.startswith(b"OggS", position)]
    assert len(starts) > 5
    path.write_bytes(content[: starts[3]] + content[starts[4] :])
    assert "is missing Ogg pages" in inspect_recording(path, None)
    path.write_bytes(content[: starts[-1]])
    assert "does not end the stream" in inspect_recording(path, None)


def test_ogg_checksum_against_its_definition():
    content = np.random.default_rng(2).bytes(257)
    register = 0
    for byte in content:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1) ^ (0x104C11DB7 if register & 0x80000000 else 0)
    assert ogg_checksum(content) == register


def test_folder_in_place_of_a_file(folder):
    assert "is not a file" in inspect_recording(folder.path, None)
