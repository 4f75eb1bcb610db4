"""Cuts without audio, and logits whose best paths are known."""

from types import SimpleNamespace

import torch
from lhotse.supervision import AlignmentItem


def cut(cut_id="u", text=None, label=None, speaker="s", duration=1.0, fold=None, phones=()):
    """A cut of one supervision; `phones` are (phone, start, end)."""
    items = [AlignmentItem(phone, start, round(end - start, 6)) for phone, start, end in phones]
    custom, alignment = None if label is None else {"label": label}, {"phone": items} if items else None
    supervision = SimpleNamespace(text=text, speaker=speaker, custom=custom, alignment=alignment)
    return SimpleNamespace(id=cut_id, duration=duration, custom=fold and {"fold": fold}, supervisions=[supervision])


def mixture(cut_id, *speakers):
    """A recording with a turn for each of `speakers`."""
    turns = [SimpleNamespace(start=0.0, duration=1.0, speaker=speaker) for speaker in speakers]
    return SimpleNamespace(id=cut_id, num_samples=16000, sampling_rate=16000, supervisions=turns)


def one_hot_paths(paths, symbols):
    """Logits (B, T, symbols) and lengths; padded frames vote for a symbol that must not be counted."""
    lengths = torch.tensor([len(path) for path in paths])
    logits = torch.zeros(len(paths), int(lengths.max()), symbols)
    logits[..., 9] = 1.0
    for row, path in enumerate(paths):
        logits[row, range(len(path)), path] = 2.0
    return logits, lengths
