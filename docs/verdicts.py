"""Write the verdicts of docs/claims.md from stored results: `python docs/verdicts.py results`.

Run it after `limelight run --full`. It rewrites everything up to "## What was changed"; the text below that heading is
written by hand.
"""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from limelight.experiment import catalog
from limelight.experiment.statistics import CONFIDENCE
from limelight.experiment.store import Store
from limelight.report.forest_plot import expectation, number

PAGE = Path(__file__).with_name("claims.md")
BY_HAND = "## What was changed after results were first seen"


def write(folder):
    store = Store(folder)
    sections, trials, seconds, seeds = [], 0, 0.0, set()
    for claim in catalog.claims():
        results = store.results(claim)
        verdict = claim.judge(results)
        trials += len(results.records)
        seconds += sum(record.seconds for record in results.records)
        seeds.add(len(results.seeds()))
        sections.append(section(claim, verdict))
    text = PAGE.read_text(encoding="utf-8")
    notes = text[text.index(BY_HAND) :]
    PAGE.write_text("\n".join([head(seeds, trials, seconds), *sections, notes]), encoding="utf-8")


def head(seeds, trials, seconds):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    return f"""# The claims and their verdicts

Everything on this page comes from one run of `limelight run --full`: {" or ".join(map(str, sorted(seeds)))} paired seeds, {trials} trials, {seconds / 60:.0f} minutes of computing with
torch {version("torch")} on CPU cores, at commit {commit.strip()}. `python docs/verdicts.py results` writes the verdicts from the stored results.
`limelight report` draws them and `limelight show CLAIM` prints them. A part *holds* if its whole {CONFIDENCE:.0%} interval lies on the
expected side of the threshold, *fails* if it lies on the other side, and is *undecided* otherwise. A claim is supported
if every part holds, refuted if every part fails, mixed if some hold and some fail, and inconclusive otherwise, or
if its control does not fail as it ought to.

## Verdicts
"""  # noqa: E501


def section(claim, verdict):
    rows = [row(part.description, part) for part in verdict.parts]
    rows.append(row(f"control: {verdict.control.description}", verdict.control))
    return "\n".join(
        [
            f"### `{claim.name}`: {verdict.outcome}\n",
            f"{claim.title.rstrip('.')}.\n",
            f"| part | expected | found, with its {CONFIDENCE:.0%} interval | |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def row(description, part):
    effect = part.effect
    found = f"{number(effect.estimate)} [{number(effect.low)}, {number(effect.high)}]"
    cells = (description, f"{expectation(part)} {part.unit}".strip(), found, part.outcome)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python docs/verdicts.py RESULTS, the results folder of `limelight run --full`")
    write(Path(sys.argv[1]))
