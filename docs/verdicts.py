"""Write the verdicts of docs/claims.md from stored results: `python docs/verdicts.py results`.

It comes after `limelight run --full`.
Everything up to "## What was changed" is written anew; what stands below is of people.
"""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from limelight.experiment import catalog
from limelight.experiment.statistics import CONFIDENCE
from limelight.experiment.store import Store
from limelight.report.effect_text import effect_text, expectation

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
    return f"""# The claims, and what came of them

All of this is one run of `limelight run --full`: {" or ".join(map(str, sorted(seeds)))} paired seeds, {trials} trials, {seconds / 60:.0f} minutes of computing with
torch {version("torch")} on CPU cores, at commit {commit.strip()}. `python docs/verdicts.py results` writes the verdicts from what it stored.
`limelight report` draws it and `limelight show CLAIM` prints it. A part *holds* where its whole {CONFIDENCE:.0%} interval lies on the
expected side of the threshold, *fails* where it lies on the other side, and is *undecided* otherwise. A claim is supported
where every part holds, refuted where every part fails, mixed where some hold and some fail, and inconclusive otherwise, or
where its control does not fail as it ought to.

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
    cells = (description, f"{expectation(part)} {part.unit}".strip(), effect_text(part), part.outcome)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python docs/verdicts.py RESULTS, a folder that `limelight run --full` has filled")
    write(Path(sys.argv[1]))
