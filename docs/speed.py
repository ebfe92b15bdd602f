"""Write the table of ordinary uses in docs/speed.md from a run: `python -m docs.speed benchmarks/results/use-cpu.json`.

The run is kept in docs/speed.json first. Everything from "## In ordinary use" to the next heading is
written anew.
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

Beside torch's own attention, or transformers' own layers, on the same inputs: `make bench`, or in two minutes
`python -m benchmarks.use --quick`. Each case ran next to what it is compared with, in one process; medians and
quartiles over rounds. A layer or a model costs what it does with torch's attention, and so does a mask however it is
written. A single query costs more where keys are few, because a call of Limelight does more before its kernel; a
`KeyCache` keeps what depends on keys alone.

![Limelight's time over torch's or transformers' own, case by case.](images/use-light.svg#only-light)
![Limelight's time over torch's or transformers' own, case by case.](images/use-dark.svg#only-dark)

{table(results)}

"""


def page(text, results):
    """The page with this section instead of the one that is there."""
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
