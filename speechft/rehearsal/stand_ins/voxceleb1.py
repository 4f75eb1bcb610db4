"""Stand-in for VoxCeleb1: recordings by speaker and video, the split list for SID, and the trials for ASV."""

from __future__ import annotations

from itertools import combinations, product

from speechft.rehearsal.stand_ins.base import SIZES, Layout, MiniSpeech, Recording, made_up_name, spread

SPLIT_LIST, TRIALS = "iden_split.txt", "veri_test.txt"
_FIRST = {"dev": 10_001, "test": 10_270}
_KINDS = ("sentence", "speaker", "command")
# ASV drops training utterances of at most 2 s, measured without silence.
_SECONDS = 2.2


def build(layout: Layout) -> dict[str, str]:
    """Write dev and test speakers, all in the split list, and trials between test speakers."""
    sizes = SIZES["voxceleb1"]
    parts = {1: sizes["train per speaker"], 2: sizes["dev per speaker"], 3: sizes["test per speaker"]}
    numbers = [number for number, count in parts.items() for _ in range(count)]
    speakers = sizes["dev speakers"] + sizes["test speakers"]
    enough = [voice for voice in layout.speech.voices if len(_of_voice(layout.speech, voice)) >= len(numbers)]
    chosen = spread(enough, speakers, lambda voice: voice[:2])
    lines: list[str] = []
    tested: dict[str, list[str]] = {}
    for place, voice in enumerate(chosen):
        half = "dev" if place < sizes["dev speakers"] else "test"
        speaker = f"id{_FIRST[half] + place - (0 if half == 'dev' else sizes['dev speakers']):05}"
        counts: dict[str, int] = {}
        for number, recording in zip(numbers, _of_voice(layout.speech, voice), strict=False):
            # Videos do not span splits.
            video = made_up_name(f"{speaker} {number}", 11)
            counts[video] = counts.get(video, 0) + 1
            name = f"{speaker}/{video}/{counts[video]:05}.wav"
            layout.say(f"{half}/wav/{name}", recording)
            lines.append(f"{number} {name}")
            if half == "test":
                tested.setdefault(speaker, []).append(name)
    layout.text(SPLIT_LIST, *lines)
    layout.text(TRIALS, *_trials(tested, sizes["trials"]))
    return {"split_list": SPLIT_LIST, "trials": TRIALS}


def _of_voice(speech: MiniSpeech, voice: str) -> list[Recording]:
    return [
        recording
        for recording in speech.recordings
        if recording.speaker == voice and recording.kind in _KINDS and recording.seconds >= _SECONDS
    ]


def _trials(tested: dict[str, list[str]], number: int) -> list[str]:
    """Alternate trials of the same speaker and of different ones."""
    same = spread(
        ((speaker, pair) for speaker, names in tested.items() for pair in combinations(names, 2)), number // 2, lambda item: item[0]
    )
    others = spread(
        ((pair, names) for pair in combinations(tested, 2) for names in product(tested[pair[0]], tested[pair[1]])),
        number - number // 2,
        lambda item: item[0],
    )
    return [line for one, two in zip(same, others, strict=True) for line in (f"1 {one[1][0]} {one[1][1]}", f"0 {two[1][0]} {two[1][1]}")]
