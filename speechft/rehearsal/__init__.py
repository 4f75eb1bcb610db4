"""Rehearsals: the same experiment at small sizes. Only creating small encoders imports torch."""

from speechft.rehearsal.derive import Rehearsal, rehearse

__all__ = ["Rehearsal", "rehearse"]
