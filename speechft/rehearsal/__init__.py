"""Dress rehearsals: an experiment as it is, with nothing changed but sizes. No torch here, except where small encoders are made."""

from speechft.rehearsal.derive import Rehearsal, rehearse

__all__ = ["Rehearsal", "rehearse"]
