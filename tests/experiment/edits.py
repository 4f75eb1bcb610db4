"""Experiments of the tests, as plain values, and changes of them."""

import yaml
from conftest import ROOT


def demo_values():
    """A small experiment."""
    return yaml.safe_load((ROOT / "tests/experiment.yaml").read_text())


def full_values():
    """The small experiment and one of everything that an experiment can have."""
    values, more = demo_values(), yaml.safe_load((ROOT / "tests/experiment/more.yaml").read_text())
    return values | {section: {**values.get(section, {}), **entries} for section, entries in more.items()}


def put(values, path, value):
    """Set the key at a dotted path, or the item of a list (one past its end is added); `...` removes the key."""
    *parents, last = path.split(".")
    for key in parents:
        values = values[int(key)] if isinstance(values, list) else values.setdefault(key, {})
    if isinstance(values, list):
        values[int(last) : int(last) + 1] = [value]
    elif value is ...:
        del values[last]
    else:
        values[last] = value
