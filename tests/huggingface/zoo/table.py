"""docs/models.json, the results for every type, and docs/models.md, the page that shows them."""

import math
import re
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

from transformers.models.auto import configuration_auto

from tests.huggingface.zoo import configs

DOCS = Path(__file__).parents[3] / "docs"
JSON, PAGE = DOCS / "models.json", DOCS / "models.md"
KEPT = "model", "result", "reason", "layers", "remarks"


def found(rows):
    """The contents of the JSON file, from a `Row` for each type."""
    equal = {name: row for name, row in rows.items() if row.result == "equal"}
    types = {name: settled(name, row, equal) for name, row in rows.items()}
    largest = max(row.difference for row in equal.values())
    digit = 10 ** math.floor(math.log10(largest))
    return {
        "transformers": version("transformers"),
        "torch": version("torch").partition("+")[0],
        "largest_difference": float(f"{math.ceil(largest / digit) * digit:.0e}"),
        "types": {name: {key: row[key] for key in KEPT if row[key]} for name, row in types.items()},
    }


def settled(name, row, equal):
    """One row. For a type that was not compared as a whole it says whether each of its layers is compared elsewhere."""
    out = dict(vars(row))
    where = defaultdict(list)
    for other, compared in equal.items():
        for layer in compared.layers:
            where[layer].append(other)
    if row.result == "not asked" and row.layers and all(layer in where for layer in row.layers):
        out["result"] = "in parts"
        out["reason"] = "compared in " + ", ".join(dict.fromkeys(nearest(name, where[layer]) for layer in row.layers))
    elif row.result == "not asked" and (parts := [part for part in parts_of(name) if part in equal]):
        out["reason"] += f"; of its parts, {' and '.join(parts)} {'is' if len(parts) == 1 else 'are'} compared"
    if row.result == "part":
        file = configs.modeling(configuration_auto.CONFIG_MAPPING[name])
        same = [other for other in equal if configs.modeling(configuration_auto.CONFIG_MAPPING[other]) is file]
        out["reason"] = f"a part of {nearest(name, same)}" if same else "a part of other models"
    return out


def parts_of(name):
    """The types of the configurations within the type's own."""
    kind = configuration_auto.CONFIG_MAPPING[name]
    below = [getattr(part, "model_type", None) for part in kind.sub_configs.values()]
    return [part for part in dict.fromkeys(below) if part and part != name]


def nearest(name, others):
    """The one of these types that has the longest common prefix with this name."""
    return max(others, key=lambda other: (len(common(name, other)), -len(other)))


def common(a, b):
    return re.match(r"(.*).*\0\1", f"{a}\0{b}")[1]


TITLES = {
    "equal": "Equal",
    "in parts": "Equal in their parts",
    "refused": "Refused",
    "no interface": "No interface",
    "part": "Configurations without a model of their own",
    "not asked": "Not compared",
    "wrong": "Wrong",
}
INTRODUCTIONS = {
    "equal": """
Each of these gave the same numbers as `eager` in every comparison. The layers are the classes whose attention
Limelight computed.""",
    "in parts": """
The whole of these models was not compared: no tiny configuration or random input was found that it accepts, or it needs
a package that is not installed, or a session. But every class of layers in them that uses the interface is compared in
the models named here.""",
    "refused": """
For these, Limelight raises an `InputError` when the model is called, so that it never computes something else.""",
    "no interface": """
These compute their attention without transformers' interface, or have none. `set_attn_implementation`
changes nothing in them, and `transplant` raises an `InputError`.""",
    "part": """
These have a configuration of their own in transformers, but are built only inside a larger model.""",
    "not asked": """
These use the interface somewhere, or might, but were not run here as a whole, for the reason that is given. In these
models too, a layer whose attention uses more than it passes to the interface is refused when it is first called (see
above).""",
    "wrong": """
Limelight gave other numbers, and no error.""",
}
HOW = """
## What is compared

Each model is built with small widths and random weights, which are large enough that no attention is close to uniform,
and called with random tokens, images, sounds or series. What it returns under `eager` is compared with what it returns
under a name of `register` and under `transplant`, with the dot product and the softmax, on `eager` and on `sdpa`. This
includes all floating-point outputs at tokens that are not padding (without a mask, with padding on the left and on the
right), its attention weights, and the scores of three tokens that it generates. Equal means a difference of at most
2·10⁻⁴ of the largest output. The same model with `Euclidean` in place of the dot product has to differ by more than
10⁻³, which shows that the outputs depend on attention.

If transformers' own `sdpa` gives other numbers than its own `eager`, the transplant on `sdpa` is compared with `sdpa`,
and the table says so. Some models have no `sdpa` in transformers; the table says that too.

A model that is not in the table, your own or one of a later version, is checked when it runs: the first time that a
layer of a class is called, its own attention and Limelight's are compared for four random tokens, and a layer whose
attention uses more than it passes to the interface is refused.

In a clone, `python -m tests.huggingface.zoo` writes this page and `models.json` anew, in a few minutes; `make
test-slow` compares every model again.
"""


def page(found):
    """docs/models.md."""
    by = defaultdict(dict)
    for name, row in found["types"].items():
        by[row["result"]][name] = row
    count = {result: len(by[result]) for result in TITLES}
    compared = count["equal"] + count["refused"] + count["wrong"]
    out = [
        "# Every model type of transformers\n",
        f"A tiny random model of each of the {len(found['types'])} model types of transformers {found['transformers']} "
        f"was built and compared, where that was possible. Of {compared} that take their attention from transformers' "
        f"interface, {count['equal']} gave the same numbers under Limelight as under `eager`, {count['refused']} "
        f"{'was' if count['refused'] == 1 else 'were'} refused with the reason, and {count['wrong'] or 'none'} gave "
        f"other numbers. {count['no interface']} do not use the interface. Of the rest, {count['in parts']} are "
        f"made of layers that are compared in other models, {count['part']} exist only within a larger model, and "
        f"{count['not asked']} were not compared. The largest relative difference among the equal ones is "
        f"{found['largest_difference']:.0e}, in float32 (torch {found['torch']}, CPU).\n",
        "| outcome | types |\n|---|---:|",
        *(f"| [{TITLES[result]}](#{anchor(TITLES[result])}) | {n} |" for result, n in count.items() if n),
        HOW,
    ]
    for result in ("refused", "wrong", "not asked", "in parts", "no interface", "part", "equal"):
        if by[result]:
            out += [f"## {TITLES[result]}", INTRODUCTIONS[result] + "\n", section(result, by[result]), ""]
    return "\n".join(out)


def section(result, rows):
    if result == "no interface":
        return ", ".join(f"`{name}`" for name in rows)
    if result == "equal":
        lines = ["| type | model | layers | remarks |", "|---|---|---|---|"]
        for name, row in rows.items():
            remarks = "; ".join(map(words, row.get("remarks", [])))
            lines.append(f"| `{name}` | {row['model']} | {', '.join(map(short, row['layers']))} | {remarks} |")
        return "\n".join(lines)
    lines = ["| type | model | why |", "|---|---|---|"]
    lines += [f"| `{name}` | {row.get('model', '')} | {words(row['reason'])} |" for name, row in rows.items()]
    return "\n".join(lines)


def words(reason):
    """A reason in words; an error that the model itself raised is quoted."""
    reason, semicolon, parts = reason.partition("; of its parts, ")
    for pattern, said in SAYS.items():
        if match := re.search(pattern, reason):
            return said.format(*match.groups()) + semicolon + parts
    if raised := re.fullmatch(r"(not asked [\w ]+: |)([A-Z]\w+: .*)", reason):
        quoted = raised[2].replace("`", "'").replace("|", "/")
        return f"{raised[1]}`{quoted}`{semicolon}{parts}"
    return reason.replace("|", "\\|").replace("<", "&lt;") + semicolon + parts


SAYS = {
    r"requires the (\w+) library": "needs the package {}, which is not among those that the tests install",
    r'is missing the required "forward" function': "has no forward pass of its own",
    r"missing \d+ required positional arguments?: (.*)": "takes arguments that are not made here: {}",
    r"(\d+) million parameters": "its smallest configuration here has {} million parameters",
}


def short(layer):
    return f"`{layer.rpartition('.')[2]}`"


def anchor(title):
    return title.lower().replace(" ", "-")
