"""Texts of the corpus: word lists and a grammar, written for this corpus. Every function draws from the given generator."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from random import Random


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(text.split("|"))


KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN_WORDS = {  # `_unknown_`: no word is in two splits, since the class is all other words, not a fixed set
    "train": _words("bed bird cat dog happy house tree wow seven three nine zero garden window pencil music table river"),
    "dev": _words("four lemon button hello paper queen"),
    "test": _words("six eight sheila thunder never basket visual follow learn forward"),
}

# Terms of query by example: two words each, so that a query is long enough to be found. Train sentences use all of them.
DEV_TERMS = _phrases(
    "chocolate cake|swimming pool|winter jacket|garden fence|fire engine|silver button|orange juice|railway station|leather wallet|"
    "football match|coffee machine|village church|mushroom soup|picture frame|science teacher|safety helmet|concert ticket|"
    "feather pillow|oyster shell|bicycle wheel"
)
TEST_TERMS = _phrases(
    "kitchen table|telephone number|wooden bridge|birthday party|treasure map|summer holiday|guitar string|apple orchard|"
    "computer mouse|mountain river|pirate ship|hotel lobby|weather forecast|traffic signal|thunder cloud|yellow umbrella|"
    "history lesson|music festival|fishing harbor|desert island|dinner plate|ginger cookie|pocket watch|toy factory|"
    "velvet curtain|cherry blossom|airport garage|television screen|cotton shirt|paper basket"
)

PEOPLE = _words(
    "farmer sailor teacher nurse judge doctor pilot painter baker captain uncle cousin brother sister mother father neighbor stranger "
    "butcher soldier queen king lawyer singer driver child youth thief guard boy girl author engineer gardener jury"
)
GROUPS = tuple(f"{who}s" for who in PEOPLE if who not in ("child", "jury", "thief", "youth"))
NAMES = _words(
    "alice ben charles diana edward fiona george hannah ian julia kevin laura martin nancy oliver paula roy sarah thomas victor wendy "
    "joyce philip ruth hugh zoe arthur judith leo shawn"
)
ADJECTIVES = _words(
    "old young heavy small huge quiet loud bright dark cheap thick thin smooth rough wet dry fresh frozen broken empty strange usual "
    "beige purple brown blue green gray pink white famous golden ancient narrow wide soft sharp cold warm loyal noisy vague royal "
    "curious dusty fancy gentle hollow jolly lazy modern plain rusty shiny tiny ugly wise"
)
VERBS = _words(  # past, base
    "carried/carry found/find watched/watch pushed/push pulled/pull measured/measure bought/buy sold/sell painted/paint cleaned/clean "
    "noticed/notice enjoyed/enjoy shook/shake caught/catch chose/choose followed/follow described/describe wanted/want lost/lose "
    "touched/touch covered/cover avoided/avoid destroyed/destroy reached/reach dropped/drop photographed/photograph missed/miss "
    "admired/admire borrowed/borrow counted/count forgot/forget guarded/guard hid/hide joined/join kept/keep left/leave "
    "mentioned/mention opened/open packed/pack repaired/repair saved/save threw/throw visited/visit washed/wash moved/move"
)
THINGS = _words(
    "box boat cup lamp book rope bell knife spoon shoe coat glove hammer mirror drum letter wagon bottle candle ladder key coin brush "
    "chair shovel engine cushion statue vase jar tooth thumb sword fish zebra whale fox goose mouse wolf owl horse sheep bull moth "
    "spider chicken turkey onion pear peach cheese bread sugar butter oil vision version measure treasure thread cloth path voice"
)
PLACES = _words(
    "bridge valley forest church garage tower market village harbor cellar kitchen yard island castle beach school office station "
    "theater garden factory museum river lake mountain field square corner road cave stable palace library hospital desert farm"
)
PREPOSITIONS = _words("near behind beside under above beyond across inside outside toward by in at")
TIMES = _phrases(
    "this morning|last night|at noon|on thursday|in march|before dawn|after lunch|every week|last year|at five|once again|"
    "during the storm|in july|on tuesday|until midnight|at the usual hour|two days ago|yesterday|tomorrow|too soon"
)
MANNERS = _words("slowly quickly quietly proudly usually never always nearly carefully barely")
NUMBERS = _words("two three four five six seven eight nine ten eleven twelve thirteen thirty forty fifty")
STATES = _phrases(
    "very old|too heavy|quite cheap|still here|gone now|ready now|not ours|much larger|hard to find|good enough|always closed|"
    "full of water|far away|easy to see|rather strange|made of wood|worth a fortune|out of sight|nothing unusual|both new and useful"
)


def _noun(rng: Random, term: str | None) -> str:
    return term if term is not None else f"{rng.choice(ADJECTIVES)} {rng.choice(THINGS)}"


def _who(rng: Random) -> str:
    if rng.random() < 0.25:
        return rng.choice(NAMES)
    article = rng.choice(("the", "the", "my", "our", "her", "his", "their"))
    return f"{article} {rng.choice(ADJECTIVES)} {rng.choice(PEOPLE)}" if rng.random() < 0.4 else f"{article} {rng.choice(PEOPLE)}"


def _where(rng: Random) -> str:
    return f"{rng.choice(PREPOSITIONS)} {rng.choice(('the', 'our', 'their'))} {rng.choice(PLACES)}"


def sentence(rng: Random, term: str | None = None) -> str:
    """Draw a sentence of 5 to 10 words about `term`, or about anything."""
    noun, who, where, when = _noun(rng, term), _who(rng), _where(rng), rng.choice(TIMES)
    past, base = rng.choice(VERBS).split("/")
    article = rng.choice(("the", "the", "that", "this", "my", "your", "our", "her", "his"))
    return rng.choice(
        (
            f"{who} {past} {article} {noun} {where}",
            f"{who} {past} {article} {noun} {when}",
            f"{who} {rng.choice(MANNERS)} {past} {article} {noun}",
            f"{article} {noun} {where} was {rng.choice(STATES)}",
            f"{article} {rng.choice(ADJECTIVES)} {noun} looks {rng.choice(STATES)}",
            f"please {base} {article} {noun} {where}",
            f"did {who} {base} {article} {noun} {when}",
            f"they could {base} {article} {noun} and {article} {rng.choice(THINGS)}",
            f"we should {base} {article} {noun} with {rng.choice(NUMBERS)} {rng.choice(GROUPS)}",
            f"{rng.choice(NAMES)} and {rng.choice(NAMES)} {past} {article} {noun}",
            f"there is {article} {noun} {where}",
            f"why would {who} {base} {article} {noun}",
        )
    )


def short_sentence(rng: Random, term: str | None = None) -> str:
    """A sentence of 4 to 7 words about `term`, or about any thing."""
    noun = _noun(rng, term)
    past, base = rng.choice(VERBS).split("/")
    article = rng.choice(("the", "the", "that", "this", "my", "your", "our"))
    return rng.choice(
        (
            f"{rng.choice(NAMES)} {past} {article} {noun}",
            f"the {rng.choice(PEOPLE)} {past} {article} {noun}",
            f"please {base} {article} {noun}",
            f"{article} {noun} is {rng.choice(STATES)}",
            f"who could {base} {article} {noun}",
            f"they {past} {article} {noun}",
        )
    )


def plain_sentence(rng: Random) -> str:
    """A sentence of 4 to 6 words for the speaking styles, which tells nothing of the style."""
    who = f"the {rng.choice(PEOPLE)}"
    past, base = rng.choice(VERBS).split("/")
    thing = rng.choice(THINGS)
    return rng.choice(
        (
            f"{who} {past} the {thing}",
            f"we {past} a {rng.choice(PLACES)} {rng.choice(('yesterday', 'at noon', 'last year'))}",
            f"you can {base} the {thing}",
            f"it is in the {rng.choice(PLACES)}",
            f"they will {base} it {rng.choice(('tomorrow', 'at five', 'on thursday'))}",
        )
    )


# Commands. Each wording of an action has a gap for the device.
OBJECTS = {"lights": ("lights", "lamps"), "heating": ("heating", "heater"), "music": ("music", "radio"), "fan": ("fan", "fans")}
ACTIONS = {
    "activate": ("turn on the {}", "switch on the {}", "start the {}"),
    "deactivate": ("turn off the {}", "switch off the {}", "stop the {}"),
    "increase": ("turn up the {}", "raise the {}", "give me more {}"),
    "decrease": ("turn down the {}", "lower the {}", "give me less {}"),
}
LOCATIONS = ("kitchen", "bedroom", "garage", "none")
HOURS = _words("one two three four five six seven eight nine ten eleven twelve")
MINUTES = ("", "fifteen", "thirty", "forty five", "twenty", "ten")
DAYS = _words("monday tuesday wednesday thursday friday saturday sunday")
TENS = _words("ten twenty thirty forty fifty sixty seventy eighty ninety")


def intents() -> list[tuple[str, str, str]]:
    """All (action, object, location)."""
    return list(product(ACTIONS, OBJECTS, LOCATIONS))


def command(rng: Random, intent: tuple[str, str, str]) -> tuple[str, list[str]]:
    """A command and the slot type of each of its words, `O` for none."""
    action, thing, place = intent
    device = rng.choice(OBJECTS[thing])
    before = place != "none" and rng.random() < 0.5
    words, slots = [], []

    def say(text: str, slot: str = "O") -> None:
        words.extend(text.split())
        slots.extend([slot] * len(text.split()))

    say(rng.choice(ACTIONS[action]).removesuffix("{}"))
    if before:
        say(place, "room")
    say(device, "device")
    if place != "none" and not before:
        say("in the")
        say(place, "room")
    modifier = rng.choice(("time", "day", "person", "amount"))
    if modifier == "time":
        say("at")
        say(f"{rng.choice(HOURS)} {rng.choice(MINUTES)}", "time")
    elif modifier == "day":
        say("on")
        say(rng.choice(DAYS), "day")
    elif modifier == "person":
        say(rng.choice(("for", "before", "when")))
        say(rng.choice(NAMES), "person")
        if words[-2] != "for":
            say(rng.choice(("leaves", "comes", "asks")))
    elif action in ("increase", "decrease"):
        say("by")
        say(f"{rng.choice(TENS)} percent", "amount")
    else:
        say("for")
        say(f"{rng.choice(TENS)} {rng.choice(('minutes', 'seconds'))}", "amount")
    return " ".join(words), slots


def all_words() -> set[str]:
    """Every word that can occur, for a check against the dictionary."""
    lists: list[Iterable[str]] = [KEYWORDS, *UNKNOWN_WORDS.values(), DEV_TERMS, TEST_TERMS, PEOPLE, GROUPS, NAMES]
    lists += [ADJECTIVES, [verb.replace("/", " ") for verb in VERBS], THINGS, PLACES, PREPOSITIONS, TIMES, MANNERS, NUMBERS, STATES]
    lists += [
        *OBJECTS.values(),
        [text.replace("{}", "") for texts in ACTIONS.values() for text in texts],
        LOCATIONS,
        HOURS,
        MINUTES,
        DAYS,
        TENS,
    ]
    lists += [_words("the that this my your our her his their please did they could we should and there is why would who was looks with")]
    lists += [_words("a you can it will in by for when before leaves comes asks percent minutes seconds me")]
    return {word for texts in lists for text in texts for word in text.split()}
