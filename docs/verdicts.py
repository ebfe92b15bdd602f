"""Write the verdicts of docs/claims.md and the findings of the README from stored results.

    python docs/verdicts.py results [CLAIM …]

It comes after `limelight run --full` and `limelight tune CLAIM`. Of docs/claims.md everything up to "## What was
changed" is written anew, or only the sections of the named claims; what stands below is written by people.
docs/findings.json keeps one sentence for each claim,
of which the README shows some, and docs/ideas.md has a table of all verdicts.
"""

import inspect
import json
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from limelight.experiment import catalog
from limelight.experiment.machine import commit
from limelight.experiment.search import searched
from limelight.experiment.statistics import CONFIDENCE
from limelight.experiment.store import Store
from limelight.report import search_table
from limelight.report.effect_text import effect_text, expectation
from limelight.report.entry import Entry

HERE = Path(__file__).parent
PAGE, FINDINGS, IDEAS = HERE / "claims.md", HERE / "findings.json", HERE / "ideas.md"
README = HERE.parent / "README.md"
BY_HAND = "## What was changed after results were first seen"
BEGIN, END = "<!-- findings: written by docs/verdicts.py -->", "<!-- end of the findings -->"
TABLE = "| statement | verdict |\n|---|---|\n"
ABILITIES = (
    "slopes",
    "dynamic_weights",
    "emulating_attention",
    "explaining_away",
    "metric_attention",
    "attention_on_graphs",
    "attention_on_shapes",
    "attention_in_translation",
    "translation_prior",
    "translation_prior_clothes",
    "similarity_search",
    "word_order",
    "relevancy_screening",
    "active_memory",
    "binding_by_alignment",
    "induction_heads",
    "attention_and_ablation",
)
CHOSEN = ("slopes", "dynamic_weights", "translation_prior", "induction_heads", "drift_diffusion")  # for the README


def write(folder, names):
    store = Store(folder)
    text = PAGE.read_text(encoding="utf-8")
    sections = {} if not names else sections_of(text)
    found = {} if not names else json.loads(FINDINGS.read_text(encoding="utf-8"))
    for claim in catalog.claims(names):
        each = entry(claim, store)
        sections[claim.name] = section(each)
        found[claim.name] = {"outcome": each.verdict.outcome, "finding": each.finding}
    found = {name: found[name] for name in catalog.names()}
    PAGE.write_text("\n".join([HEAD, *map(sections.get, found), text[text.index(BY_HAND) :]]), encoding="utf-8")
    FINDINGS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    README.write_text(with_findings(README.read_text(encoding="utf-8"), found), encoding="utf-8")
    IDEAS.write_text(with_words(IDEAS.read_text(encoding="utf-8"), found), encoding="utf-8")


def sections_of(page):
    """The section of each claim on the page, by the claim's name."""
    written = page[page.index("## Verdicts\n") : page.index(BY_HAND)]
    parts = re.split(r"^(?=### `)", written, flags=re.MULTILINE)[1:]
    return {part.split("`")[1]: part.removesuffix("\n") for part in parts}


def entry(claim, store):
    results = store.results(claim)
    verdict = claim.verdict(results)
    if verdict is None:
        sys.exit(f"{claim.name} has no verdict in {store.folder}; run `limelight run {claim.name} --full` first")
    return Entry(claim, results, verdict, searched(claim, store))


def with_findings(readme, found):
    """The README with the findings of `CHOSEN` between its two marks."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    lines = [
        f"- {found[name]['finding']} ([{name}](docs/claims.md#{name}-{found[name]['outcome']}))" for name in CHOSEN
    ]
    return "\n".join([before + BEGIN, *lines, END + after])


def with_words(ideas, found):
    """The page of ideas, in whose table each claim on what attention can do has its statement and its verdict."""
    before, table = ideas.split(TABLE)
    _, _, after = table.partition("\n\n")
    rows = [
        f"| {catalog.claim(name).title.rstrip('.')}. | [{word}](claims.md#{name}-{word}) |"
        for name in ABILITIES
        if (word := found[name]["outcome"])
    ]
    return before + TABLE + "\n".join(rows) + "\n\n" + after


HEAD = f"""# The claims and their verdicts

Everything on this page comes from stored results of thirty paired seeds of each claim, or of as many as its section says:
fewer where a trial takes long, more where thirty decide little. `python docs/verdicts.py results` writes it from them.
`limelight report` draws the results, `limelight show CLAIM` prints a verdict, and `limelight replicate CLAIM` repeats a claim
on other seeds.

A part *holds* if its whole {CONFIDENCE:.0%} interval lies on the expected side of the threshold, *fails* if it lies on the other
side, and is *undecided* otherwise. It is also undecided if its p-value is above 5 % after Holm's correction for the number of
parts, so that the probability of any wrong word in a claim is at most 5 %. An *exact* part is an identity, which must hold in
every run. A claim is supported if every part holds, refuted if every part fails, mixed if some hold and some fail, and
inconclusive otherwise, or if its control does not fail as it ought to.

## Verdicts
"""  # noqa: E501


def section(entry):
    claim, verdict = entry.claim, entry.verdict
    rows = [row(part.description, part) for part in verdict.parts]
    rows.append(row(f"control: {verdict.control.description}", verdict.control))
    return "\n".join(
        [
            f"### `{claim.name}`: {verdict.outcome}\n",
            f"**{entry.finding}**\n",
            f"The claim: {claim.title[0].lower()}{claim.title[1:].rstrip('.')}. "
            f"Its thresholds are those of {thresholds(claim)}. {run_of(entry)}\n",
            f"| part | expected | found, with its {CONFIDENCE:.0%} interval | |",
            "|---|---|---|---|",
            *rows,
            "",
            *tuning(entry),
        ]
    )


def thresholds(claim):
    """The commit that last changed the judgment, and its day."""
    place = f"/    def judge/,/    def /:{inspect.getsourcefile(type(claim).judge)}"
    command = ["git", "log", "-s", "-1", "--format=commit %h (%as)", "-L", place]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def run_of(entry):
    """How the results came about: seeds, trials, time, machine and versions."""
    machine = entry.machines or platform.machine()
    return (
        f"{entry.seeds} seeds, {len(entry.results.records)} trials, {entry.seconds / 60:.0f} minutes on one core "
        f"({machine}; Python {platform.python_version()}, torch {version('torch')}), judged at commit {commit()}."
    )


def tuning(entry):
    """What every arm reached with each learning rate, as a table; nothing for a claim without a search."""
    if not entry.search:
        return []
    score = entry.claim.measures[entry.claim.score]
    headings = search_table.headings(entry.claim)
    return [
        f"Every arm tried the same learning rates on six other seeds ({score.description}, median; * the best):\n",
        line(headings),
        line(["---"] * len(headings)),
        *map(line, search_table.rows(entry.claim, entry.search)),
        "",
    ]


def row(description, part):
    return line([description, f"{expectation(part)} {part.unit}".strip(), effect_text(part), part.outcome])


def line(cells):
    return "| " + " | ".join(cell.replace("|", "\\|").replace("*", "\\*") for cell in cells) + " |"


if __name__ == "__main__":
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(
            "usage: python docs/verdicts.py RESULTS [CLAIM …], RESULTS the results folder of `limelight run --full`"
        )
    write(Path(sys.argv[1]), sys.argv[2:])
