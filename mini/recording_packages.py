"""Debian packages with the recorded speech on which the mini encoders are pre-trained, and patterns of their speech files."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """A Debian package with recordings.

    Attributes:
        name: name of the package.
        licence: license of its recordings, according to its copyright file.
        speech: pattern of paths with speech, inside the package or its archives; the optional group `language` is the language code.
        language: language if it is not in the path.
        without: pattern of paths to exclude: music, effects, cries, artificial voices.
    """

    name: str
    licence: str
    speech: str
    language: str = ""
    without: str = "^$"

    def language_of(self, path: str) -> str | None:
        """Return the language of the speech file at `path`; None if it is not one."""
        found = re.search(self.speech, path)
        if found is None or re.search(self.without, path):
            return None
        return found.groupdict().get("language") or self.language


_ASTERISK_TONES = r"/silence/|/(beep|beeperr|(a|de)scending-2tone|tt-monkeys|confbridge-(join|leave))\.g722$"
_ASTERISK = {"en": "CC-BY-SA-3.0", "es": "CC-BY-SA-3.0", "fr": "CC-BY-SA-3.0", "it": "CC-BY-SA-3.0", "ru": "CC-BY-3.0"}
# Hedgehogs with these names speak English with that accent.
_ENGLISH_HEDGEHOGS = "British|Classic|Default|HillBilly|Mobster|Pirate|Russian|Surfer"
_CRIES = r"/(Hmm|Jump|Laugh|Nooo|Ooff|Ouch|Ow)\d?\.ogg$"

PACKAGES = (
    *(
        Package(f"asterisk-core-sounds-{language}-g722", licence, r"\.g722$", language, _ASTERISK_TONES)
        for language, licence in _ASTERISK.items()
    ),
    Package("fillets-ng-data-cs", "GPL-2", r"/sound/.*/cs/[^/]+\.ogg$", "cs"),
    Package("fillets-ng-data-nl", "GPL-2", r"/sound/.*/nl/[^/]+\.ogg$", "nl"),
    # Files without a language are sounds of the object shown; descriptions without one are English.
    Package("tuxpaint-stamps-default", "GPL-2", r"(_desc|(_desc|/\d+)_(?P<language>[a-z]{2}(_[A-Za-z]{2})?))\.(ogg|wav)$", "en"),
    Package("klettres-data", "GPL-2+", r"/klettres/(?P<language>[^/]+)/(alpha|syllab)/[^/]+\.ogg$"),
    Package("ktuberling-data", "GPL-2+", r"/sounds/(?P<language>[^/]+)/[^/]+\.(ogg|wav|opus)$", without=r"/tux-zzz\."),
    Package(
        "hedgewars-data",
        "GFDL-1.3",
        rf"/voices/(({_ENGLISH_HEDGEHOGS})|(Default|Russian)_(?P<language>[a-z]+))/[^/]+\.ogg$",
        "en",
        without=_CRIES,
    ),
    Package(
        "nexuiz-data",
        "GPL-2+",
        r"^sound/(tutorial|announcer/male|player/(fricka|insurrectionist|marine|pyria-skadi|soldier|specop)/coms)/",
        "en",
    ),
)
