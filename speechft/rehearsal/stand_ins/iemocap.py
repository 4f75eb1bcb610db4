"""Stand-in for IEMOCAP: sessions of dialogues, labels between annotator lines, macOS files, and s3prl's lists of the order."""

from __future__ import annotations

import json
from collections.abc import Iterator

from speechft.corpora.readers.iemocap import FOLDER, SESSIONS
from speechft.rehearsal.stand_ins.base import SIZES, Layout, MiniSpeech, Recording, spread

# Style of the speech -> labels to alternate.
_LABELS = {"neutral": ("neu",), "excited": ("hap", "exc"), "calm": ("sad",), "whispered": ("ang",)}
_LEFT_OUT = ("fru", "xxx", "sur", "oth", "dis", "fea")
_HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
_ANNOTATORS = (
    "C-E2:\tNeutral;\t()",
    "C-F1:\tNeutral; Other;\t(curious)",
    "A-E3:\tval 3; act 2; dom  2;\t()",
    "A-F1:\tval 3; act 2; dom  1;\t(staying polite)",
)
_CODES = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}


def build(layout: Layout) -> dict[str, str]:
    """Write two speakers per session, each with four classes and excluded ones; `order` is a folder of unsorted lists."""
    entries: dict[str, list[dict[str, str]]] = {}
    for number, session in enumerate(SESSIONS, start=1):
        dialogues: dict[str, list[tuple[str, str, Recording]]] = {}
        for sex in "FM":
            for place, (label, recording) in enumerate(_turns(layout.speech, number, sex)):
                dialogue = (f"Ses{number:02}F_impro01", f"Ses{number:02}M_script01_1")[place % 2]
                dialogues.setdefault(dialogue, []).append((f"{dialogue}_{sex}{place // 2:03}", label, recording))
        for dialogue, turns in dialogues.items():
            _write_dialogue(layout, session, dialogue, turns)
        # As in the published lists, dialogues are unsorted.
        entries[session] = [
            {"path": f"{session}/sentences/wav/{dialogue}/{name}.wav", "label": "hap" if label == "exc" else label, "speaker": name[:6]}
            for dialogue in sorted(dialogues, reverse=number % 2 == 1)
            for name, label, _ in dialogues[dialogue]
            if label not in _LEFT_OUT
        ]
    for session in SESSIONS:
        rest = [entry for other in SESSIONS if other != session for entry in entries[other]]
        for name, listed in (("test", entries[session]), ("train", rest)):
            content = {"labels": _CODES, "meta_data": listed}
            layout.text(f"{FOLDER}/{session}/{name}_meta_data.json", json.dumps(content, indent=1))
    return {"order": FOLDER}


def _turns(speech: MiniSpeech, session: int, sex: str) -> Iterator[tuple[str, Recording]]:
    """Labels and recordings of one speaker of a session."""
    sizes = SIZES["iemocap"]
    rows = [row for row in speech.table("styles.csv") if row["fold"] == str(session)]
    voice = next(row["speaker"] for row in rows if row["speaker"][1].upper() == sex)
    mine = [(row["label"], speech.of_path[row["path"]]) for row in rows if row["speaker"] == voice]
    each, left_out = sizes["per class, speaker and session"], sizes["left out per speaker and session"]
    used = []
    for style, labels in _LABELS.items():
        for place, (_, recording) in enumerate(spread((item for item in mine if item[0] == style), each, lambda item: item[0])):
            used.append(recording)
            yield labels[(session + place + (sex == "M")) % len(labels)], recording
    spare = [(label, recording) for label, recording in mine if recording not in used]
    for place, (_, recording) in enumerate(spread(spare, left_out, lambda item: item[0])):
        yield _LEFT_OUT[(2 * session + place + (sex == "M")) % len(_LEFT_OUT)], recording


def _write_dialogue(layout: Layout, session: str, dialogue: str, turns: list[tuple[str, str, Recording]]) -> None:
    lines = [_HEADER, ""]
    begin = 1.0
    for name, label, recording in turns:
        end = begin + recording.seconds
        lines += [f"[{begin:.4f} - {end:.4f}]\t{name}\t{label}\t[2.5000, 2.5000, 2.5000]", *_ANNOTATORS, ""]
        begin = end + 0.5
        audio = f"{session}/sentences/wav/{dialogue}/{name}.wav"
        layout.say(audio, recording)
        layout.resource_fork(audio)
    labels = f"{session}/dialog/EmoEvaluation/{dialogue}.txt"
    layout.text(labels, *lines)
    layout.resource_fork(labels)
