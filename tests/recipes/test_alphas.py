import re

import pytest

from speechft.recipes.alphas import ALPHA_PATTERN, alpha_text, parse_alphas, split_method


def test_every_alpha_has_one_spelling():
    spelled = {0: "0.00", 0.1: "0.10", 0.25: "0.25", 0.5: "0.50", 0.125: "0.125", 1.0: "1.00", 0.0001: "0.0001", 1e-7: "0.0000001"}
    for alpha, text in spelled.items():
        assert alpha_text(alpha) == text
        assert re.fullmatch(ALPHA_PATTERN, text)
        assert split_method(f"speech_ft@{text}") == ("speech_ft", alpha)
    for other in ("0.5", "0.500", "0.250", ".50", "1", "1.0", "1.01", "2.00", "00.50", "-0.50", "0.5e0"):
        assert not re.fullmatch(ALPHA_PATTERN, other)


def test_other_spellings_are_pointed_out():
    for name in ("speech_ft@0.5", "speech_ft@.5", "speech_ft@0.500"):
        with pytest.raises(ValueError, match=f"{name}.*write speech_ft@0.50"):
            split_method(name)
    with pytest.raises(ValueError, match="from 0 to 1"):
        split_method("speech_ft@1.50")


def test_names_without_alpha():
    assert split_method("speech_ft") == ("speech_ft", None)
    assert split_method("speech_ft@best") == ("speech_ft@best", None)


def test_ranges_include_their_end_and_are_exact():
    assert parse_alphas("0:1:0.1") == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert parse_alphas("0.2:0.5:0.2") == (0.2, 0.4)
    assert parse_alphas("0.3:0.3:1") == (0.3,)


@pytest.mark.parametrize("text", ["", "0", "0:1", "0:1:0", "1:0:0.1", "0:1:-0.1", "1:0:-0.1", "a:b:c", "0:1:nan", "0:inf:1", "0:1:1e-6"])
def test_what_is_no_range(text):
    with pytest.raises(ValueError, match="not a range"):
        parse_alphas(text)
