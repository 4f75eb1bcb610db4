"""The Debian packages whose recorded speech the mini encoders are pre-trained on, and which of their files are speech."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """A Debian package with recordings.

    Attributes:
        name: of the package.
        licence: of its recordings, as its copyright file says.
        speech: pattern of the paths, inside the package or its archives, that hold speech; the group `language` is its code, if there.
        language: where the path does not say it.
        without: pattern of paths to leave out all the same: music, effects, cries, voices that no person has.
    """

    name: str
    licence: str
    speech: str
    language: str = ""
    without: str = "^$"

    def language_of(self, path: str) -> str | None:
        """Language of the speech in the file at `path`, None if it is not one of ours."""
        found = re.search(self.speech, path)
        if found is None or re.search(self.without, path):
            return None
        return found.groupdict().get("language") or self.language


_ASTERISK_TONES = r"/silence/|/(beep|beeperr|(a|de)scending-2tone|tt-monkeys|confbridge-(join|leave))\.g722$"
_ASTERISK = {"en": "CC-BY-SA-3.0", "es": "CC-BY-SA-3.0", "fr": "CC-BY-SA-3.0", "it": "CC-BY-SA-3.0", "ru": "CC-BY-3.0"}
# Hedgehogs of these names speak with the accent of the name, but English.
_ENGLISH_HEDGEHOGS = "British|Classic|Default|HillBilly|Mobster|Pirate|Russian|Surfer"
_CRIES = r"/(Hmm|Jump|Laugh|Nooo|Ooff|Ouch|Ow)\d?\.ogg$"

PACKAGES = (
    *(
        Package(f"asterisk-core-sounds-{language}-g722", licence, r"\.g722$", language, _ASTERISK_TONES)
        for language, licence in _ASTERISK.items()
    ),
    Package("fillets-ng-data-cs", "GPL-2", r"/sound/.*/cs/[^/]+\.ogg$", "cs"),
    Package("fillets-ng-data-nl", "GPL-2", r"/sound/.*/nl/[^/]+\.ogg$", "nl"),
    # Files without a language are noises of the thing that is shown; descriptions without one are English.
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
