"""Write the table of ordinary uses in docs/speed.md from a run: `python -m docs.speed benchmarks/results/use-cpu.json`.

The run is first copied to docs/speed.json. Everything from "## In ordinary use" to the next heading is rewritten.
"""

import json
import re
import sys
from pathlib import Path

from benchmarks.use_report import table

PAGE = Path(__file__).with_name("speed.md")
KEPT = Path(__file__).with_name("speed.json")
HEADING = "## In ordinary use"


def section(results):
    return f"""{HEADING}

Limelight compared with torch's own attention, or with transformers' own layers, on the same inputs: `make bench`, or in
two minutes `python -m benchmarks.use --quick`. Each case and its counterpart took turns in one process; the table has
medians and quartiles over rounds. A layer or a model takes about the time that it takes with torch's attention, and so
does every kind of mask. A single query takes longer when there are few keys, because a call of Limelight does more
before its kernel; a `KeyCache` keeps what depends on the keys alone.

![Limelight's time divided by that of torch or transformers, for each case.](images/use-light.svg#only-light)
![Limelight's time divided by that of torch or transformers, for each case.](images/use-dark.svg#only-dark)

{table(results)}

"""


def page(text, results):
    """The page with its section on ordinary use replaced by one with these results."""
    head, _, rest = text.partition(HEADING)
    following = re.search(r"^## ", rest, re.MULTILINE)
    return head + section(results) + rest[following.start() :]


def write(given):
    if given:
        KEPT.write_text(Path(given[0]).read_text(encoding="utf-8"), encoding="utf-8")
    results = json.loads(KEPT.read_text(encoding="utf-8"))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1:])
