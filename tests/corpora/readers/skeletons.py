"""Skeletons of published corpora: their folders, lists and names, with a little noise as speech."""

import shutil

import numpy as np
from corpora.conftest import CorpusFolder

from speechft.recipes.corpora import corpus_recipe
from speechft.tasks import get_task
from speechft.tasks.ks import SUPERB_CLASSES, speech_commands_split


class Skeleton(CorpusFolder):
    """The folder of a published corpus, made a file at a time."""

    def __init__(self, path, kind):
        super().__init__(path)
        self.kind = kind
        self._seed = 0

    def audio(self, name, seconds=0.3, rate=16_000, **options):
        self._seed += 1
        noise = 0.1 * np.random.default_rng(self._seed).standard_normal(round(seconds * rate))
        return self.samples(name, noise, rate, **options)

    def text(self, name, *lines):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    def remove(self, name):
        path = self.path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def recipe(self, **options):
        return corpus_recipe({"kind": self.kind, "path": self.path, "complete": False, **options}, "recipe")

    @staticmethod
    def targets(task, splits, **options):
        """Label set of train and the targets of all splits."""
        task = get_task(task, **options)
        labels = task.label_set(splits["train"])
        return labels, {split: [task.target(cut, labels) for cut in cuts] for split, cuts in splits.items()}


def build_aishell1(corpus):
    speakers = {"train": "S0002", "dev": "S0724", "test": "S0764"}
    for split, speaker in speakers.items():
        for number in (122, 123):
            corpus.audio(f"wav/{split}/{speaker}/BAC009{speaker}W0{number}.wav")
    lines = [f"BAC009{speaker}W0122 而 对 楼市 ｋ t v" for speaker in speakers.values()]  # noqa: RUF001
    corpus.text("transcript/aishell_transcript_v0.8.txt", *lines)


def build_aishell3(corpus):
    for part, speaker in (("train", "SSB0005"), ("test", "SSB0009")):
        for number in (1, 2):
            corpus.audio(f"{part}/wav/{speaker}/{speaker}000{number}.wav", rate=44_100)
        corpus.text(f"{part}/content.txt", *(f"{speaker}000{number}.wav\t广 guang3 州 zhou1" for number in (1, 2)))


SNIPS_LINES = (
    "{} BOS Add Nine Inch Nails to party EOS\tO O B-artist I-artist I-artist O B-playlist AddToPlaylist",
    "{} BOS play it EOS\tO O O PlayMusic",
)


def build_audio_snips(corpus):
    lines = []
    for folder, voices in (("train", ("Ivy", "Salli")), ("valid", ("Aditi",)), ("test", ("Russell",))):
        for number, line in enumerate(SNIPS_LINES):
            for voice in voices:
                corpus.audio(f"{folder}/{voice}-snips-{folder}-{number}.wav")
                lines.append(line.format(f"{voice}-snips-{folder}-{number}"))
    corpus.text("all.iob.snips.txt", *lines)


def build_crema_d(corpus):
    actors = {number: "Male" if number % 2 else "Female" for number in range(1001, 1021)}
    rows = [f'{actor},{51},"{sex}","Caucasian","Not Hispanic"' for actor, sex in actors.items()]
    corpus.text("VideoDemographics.csv", '"ActorID","Age","Sex","Race","Ethnicity"', *rows)
    for actor in actors:
        for emotion in ("ANG", "NEU"):
            corpus.audio(f"AudioWAV/{actor}_DFA_{emotion}_XX.wav")


FLUENT_HEADER = ",path,speakerId,transcription,action,object,location"
FLUENT_NAME = "wavs/speakers/2BqVo8kVB2Skwgyb/{}.wav"


def build_fluent_speech_commands(corpus):
    for number, table in enumerate(("train", "valid", "test")):
        rows = []
        for row, values in enumerate(("Change language,change language,none,none", '"Turn up, please",increase,volume,none')):
            name = FLUENT_NAME.format(f"0a3129c0-4474-11e9-a9a5-{number}{row}")
            corpus.audio(name)
            rows.append(f"{row},{name},speaker{number},{values}")
        corpus.text(f"data/{table}_data.csv", FLUENT_HEADER, *rows)


IEMOCAP_HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
IEMOCAP_TURNS = [("F000", "neu"), ("F001", "exc"), ("M000", "ang"), ("M001", "fru"), ("M002", "sad"), ("M003", "xxx"), ("F002", "hap")]


def build_iemocap(corpus):
    for number in range(1, 6):
        for dialogue in (f"Ses0{number}F_impro01", f"Ses0{number}F_script01_1"):
            lines = ["", IEMOCAP_HEADER, ""]
            for turn, emotion in IEMOCAP_TURNS:
                lines += [f"[6.2901 - 8.2357]\t{dialogue}_{turn}\t{emotion}\t[2.5000, 2.5000, 2.5000]", "C-E2:\tNeutral;\t()", ""]
                corpus.audio(f"Session{number}/sentences/wav/{dialogue}/{dialogue}_{turn}.wav")
            corpus.text(f"Session{number}/dialog/EmoEvaluation/{dialogue}.txt", *lines)


def build_libri2mix(corpus):
    for number, split in enumerate(("train", "dev", "test"), start=200):
        name = f"103-1240-0000_{number}-0003"
        corpus.audio(f"Libri2Mix/wav16k/max/{split}/mix_both/{name}.wav", seconds=1.0)
        corpus.text(f"{split}/wav.scp", f"{name} Libri2Mix/wav16k/max/{split}/mix_both/{name}.wav")
        corpus.text(f"{split}/segments", f"{name}_1 {name} 0.00 0.60", f"{name}_2 {name} 0.20 0.90")
        corpus.text(f"{split}/utt2spk", f"{name}_1 103", f"{name}_2 {number}")
        turns = (("0.20 0.70", number), ("0.00 0.60", 103))
        corpus.text(f"{split}/rttm", *(f"SPEAKER {name} 1 {times} <NA> <NA> {who} <NA> <NA>" for times, who in turns))


def build_librispeech(corpus):
    for part, chapter in {"train-clean-100": "103-1240", "dev-clean": "84-121123", "test-clean": "61-70968"}.items():
        folder = f"{part}/{chapter.replace('-', '/')}"
        for number in range(2):
            corpus.audio(f"{folder}/{chapter}-{number:04d}.flac")
        corpus.text(f"{folder}/{chapter}.trans.txt", f"{chapter}-0000 TURN THE LIGHT ON", f"{chapter}-0001 IT'S OFF")


def build_quesst14(corpus):
    root, term = "quesst14Database", '<term termid="{0}"><termtext>{0}</termtext></term>'
    for number in (1, 2, 3):
        corpus.audio(f"Audio/quesst14_{number:05d}.wav", rate=8_000)
    languages = ((1, "nnenglish"), (2, "nnenglish"), (3, "romanian"))
    lines = [f"{root}/Audio/quesst14_0000{number}.wav {language}" for number, language in languages]
    corpus.text("scoring/language_key_utterances.lst", *lines)
    for part in ("dev", "eval"):
        queries = [f"quesst14_{part}_000{number}" for number in (1, 2)]
        lines = [f"{root}/{part}_queries/{query}.wav {language}" for query, language in zip(queries, ("nnenglish", "czech"), strict=True)]
        corpus.text(f"scoring/language_key_{part}.lst", *lines)
        for query in queries:
            corpus.audio(f"{part}_queries/{query}.wav", rate=8_000)
        held = ((2, queries[0]), (3, queries[0]), (1, queries[1]))
        lines = [f"LEXEME quesst14_0000{number} 1 0.00 1.00 {query} lex lex <NA>" for number, query in held]
        truth = f"scoring/groundtruth_quesst14_{part}/quesst14_{part}"
        corpus.text(f"{truth}.rttm", "SPKR-INFO quesst14_00001 1 <NA> <NA> <NA> unknown lex <NA>", *lines)
        corpus.text(f"{truth}.tlist.xml", "<termlist>", *map(term.format, queries), "</termlist>")


COMMANDS, COMMANDS_TEST = "speech_commands_v0.01", "speech_commands_test_set_v0.01"


def command_speakers():
    """A speaker for each side of the division, found by the hash that the corpus is divided with."""
    found = {}
    for number in range(1000):
        found.setdefault(speech_commands_split(f"{number:08x}_nohash_0.wav"), f"{number:08x}")
    return found


def build_speech_commands(corpus):
    for word in (*SUPERB_CLASSES[:10], "bed"):
        for speaker in command_speakers().values():
            corpus.audio(f"{COMMANDS}/{word}/{speaker}_nohash_0.wav")
    corpus.audio(f"{COMMANDS}/_background_noise_/white_noise.wav", seconds=2)
    for label in SUPERB_CLASSES:
        corpus.audio(f"{COMMANDS_TEST}/{label}/0a5636ca_nohash_0.wav")


TED_LINES = (
    "{0} 1 {0} 0.00 1.50 <o,f0,male> i am here today",
    "{0} 1 {0} 1.50 2.00 <o,f0,male> too short",
    "{0} 1 inter_segment_gap 2.00 3.00 <o,f0,> ignore_time_segment_in_scoring",
    "{0} 1 {0} 3.00 4.50 <o,f0,male> it 's <unk> now",
    "{0} 1 {0} 4.00 5.60 <o,f0,male> and so on",
)


def build_tedlium3(corpus):
    talks = {"train": ("AaronHuey_2010X", "911Mothers_2010W"), "dev": ("AlGore_2009",), "test": ("AimeeMullins_2009P",)}
    for split, names in talks.items():
        for talk in names:
            corpus.audio(f"legacy/{split}/sph/{talk}.sph", seconds=5.5, format="NIST", subtype="PCM_16")
            corpus.text(f"legacy/{split}/stm/{talk}.stm", ";; a comment", *(line.format(talk) for line in TED_LINES))


def build_timit(corpus, spelled=str.upper):
    phones = ("0 807 h#", "807 2407 sh", "2407 3311 iy", "3311 4001 ix", "4001 4803 q")
    for speaker in ("TRAIN/DR1/FCJF0", "TEST/DR1/FAKS0", "TEST/DR1/FELC0", "TEST/DR1/MRJO0"):
        for name in ("SA1", "SI648", "SX37"):
            corpus.audio(spelled(f"{speaker}/{name}.wav"), format="NIST", subtype="PCM_16")
            corpus.text(spelled(f"{speaker}/{name}.phn"), *phones)
            corpus.text(spelled(f"{speaker}/{name}.txt"), "0 4800 She is.")


VOXCELEB = ["id10001/1zcIwhmdeo4/00001.wav", "id10002/0_laIeN-Q44/00001.wav", "id10001/1zcIwhmdeo4/00002.wav"]
VOXCELEB_TEST = ["id10270/5r0dWxy17C8/00001.wav", "id10270/5r0dWxy17C8/00002.wav", "id10271/1gtz-CUIygI/00001.wav"]


def build_voxceleb1(corpus):
    for name in VOXCELEB:
        corpus.audio(f"dev/wav/{name}")
    for name in VOXCELEB_TEST:
        corpus.audio(f"test/wav/{name}")
    corpus.text("iden_split.txt", *(f"{number} {name}" for number, name in enumerate(VOXCELEB, start=1)))
    corpus.text("trials.txt", *(f"{same} {VOXCELEB_TEST[0]} {name}" for same, name in zip((1, 0), VOXCELEB_TEST[1:], strict=True)))


BUILDERS = {name.removeprefix("build_"): build for name, build in globals().items() if name.startswith("build_")}


def published(path, kind):
    """The skeleton of a corpus."""
    corpus = Skeleton(path, kind)
    BUILDERS[kind](corpus)
    return corpus
