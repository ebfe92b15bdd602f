"""Recorded messages from a browser to the lab, and mutants of them, which no page would send."""

import copy
import json
import random
from pathlib import Path

RECORDED = [
    (line["page"], line["message"])
    for line in map(json.loads, Path(__file__).with_name("recorded.jsonl").read_text(encoding="utf-8").splitlines())
]  # the open page, or "dash" for a call of a callback, and the message

ODD = [
    None, True, False, 0, -1, 1.5, 1e308, -1e308, 5e-324, 2**31, 2**53 + 1, 2**63, 10**30, 10**400, "", " ",
    "x" * 10_000, "\0", "\u202e", "../../etc/passwd", "<img src=x onerror=alert(1)>", "ALL", "MATCH", "__class__",
    "own", "play", "NaN", "slopes", "data:,", "data:text/csv;base64,AAAA", [], {}, [[]], [None] * 50,
    [[1, 2], [3]], {"": {}}, {"id": "page"},
]  # fmt: skip
NO_JSON = ["NaN", "Infinity", "-Infinity", "1e999", r'"\ud800"', r'"\u0000"', "0x10", "'x'", "undefined", "1" * 5000]


def deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


def places(value, path=()):
    """The paths to all values in a message."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from places(each, (*path, key))


def put(message, path, value):
    """The message with another value at a path."""
    if not path:
        return value
    parent = message
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return message


def at(message, path):
    for key in path:
        message = message[key]
    return message


def mutant(message, choose: random.Random):
    """The text of a message with one to three changes, which sometimes leave it valid."""
    message = copy.deepcopy(message)
    for _ in range(choose.randint(1, 3)):
        path = choose.choice(list(places(message)))
        parent, fault = at(message, path[:-1]) if path else None, choose.randrange(6)
        if fault == 0 and path:
            del parent[path[-1]]
        elif fault == 1 and isinstance(parent, dict):
            parent[choose.choice(["x", "", "id", "value", "__proto__"])] = parent.pop(path[-1])
        elif fault == 2 and isinstance(parent, list):
            parent.append(copy.deepcopy(choose.choice(parent)))
        elif fault == 3:
            message = put(message, path, copy.deepcopy(at(message, choose.choice(list(places(message))))))
        elif fault == 4:
            message = put(message, path, deep(choose.choice([3, 150, 190])))
        else:
            message = put(message, path, copy.deepcopy(choose.choice(ODD)))
    return damaged(json.dumps(message), choose)


def damaged(text, choose: random.Random):
    """Usually the text itself; sometimes text that is not JSON, or nested too deeply."""
    fault = choose.randrange(12)
    if fault == 0:
        return text[: choose.randrange(len(text) + 1)]
    if fault == 1:
        i = choose.randrange(len(text) + 1)
        return text[:i] + choose.choice(['"', "{", "]", "\0", "é", "💥", "\\"]) + text[i:]
    if fault == 2:
        return "[" * 50_000 + "]" * 50_000
    if fault == 3 and ":" in text:
        head, _, tail = text.partition(":")
        return f"{head}: {choose.choice(NO_JSON)}{tail[tail.find(',') if ',' in tail else -1 :]}"
    return text


def mutants(count, seed):
    """So many pairs (page, text), each from another recorded message."""
    choose = random.Random(seed)
    for _ in range(count):
        page, message = choose.choice(RECORDED)
        yield page, mutant(message, choose)
