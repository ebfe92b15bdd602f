"""Write the tables of docs/speed.md that come from stored runs: `python -m docs.speed benchmarks/results/use-cpu.json`.

A run of `benchmarks.use`, of `benchmarks.microscope`, of `benchmarks.microscope_limits`, or of `benchmarks.classical`
with `--json`, is first copied to docs/speed.json; so is one of `benchmarks.operator` on a GPU, by the name of its file.
The sections "## In ordinary use", "## The microscope", "### Long texts, and the page", "### Sparse graphs and many
clusters" and "## On a GPU" are rewritten up to their next headings.
"""

import json
import re
import sys
from pathlib import Path

from benchmarks import microscope, microscope_limits
from benchmarks.results import Results
from benchmarks.table import as_text
from benchmarks.use_report import table

PAGE = Path(__file__).with_name("speed.md")
KEPT = Path(__file__).with_name("speed.json")
HEADING = "## In ordinary use"
MICROSCOPE = "## The microscope"
LIMITS = "### Long texts, and the page"
GRAPHS = "### Sparse graphs and many clusters"
GPU = "## On a GPU"


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


def watched(results):
    return f"""{MICROSCOPE}

`python -m benchmarks.microscope`: the entropies of all 144 heads of a GPT-2 with random weights (12 layers with 12
heads of width 64), by the microscope, by TransformerLens' cache of patterns, and by eager attention with
`output_attentions`. A plain run is the model with torch's own attention. Times are medians and quartiles over rounds in
turns; memory is what the job adds to the process at its peak. The microscope runs the model twice and checks each
layer, to make sure that it changes nothing and that P is what the layer computes; the others run it once and store all
matrices, whose memory grows with the square of the text. So they are faster where the matrices are small.

{microscope.table(results)}

"""


def limits(results):
    return f"""{LIMITS}

`python -m benchmarks.microscope_limits`. The page is that of the same GPT-2. Times of long texts are those of the
processor. Each run has a process of its own, whose peak memory is given with the weights and torch itself, and without.
`attach` keeps the queries and keys of all layers; `measuring` keeps only the numbers. The small Llama has random
weights and two layers of four heads.

{microscope_limits.table(results)}

"""


def graphs(classical):
    return f"""{GRAPHS}

`python -m benchmarks.classical --only "graph of" "20 clusters"`, with scikit-learn's `SpectralClustering` and
`SpectralEmbedding` on the same inputs. The sparse graphs join each point to its ten nearest neighbors and are given
with `affinity="precomputed"`; "blobs" are points, whose graph is dense. The numbers are scikit-learn's time divided by
Limelight's: medians and quartiles over rounds in turns, on two cores that other programs used, too. The target is 0.83.

{beside(classical)}

"""


def on_a_gpu(runs):
    blocks = "\n\n".join(f"```\n{as_text(Results.of(run))}\n```" for run in runs.values())
    return f"""{GPU}

`python -m benchmarks.operator --device cuda`. Targets are those of the CPU; few are met. Dot products run on torch's
own call. The other fused mechanisms need a log-sum-exp and a bias of keys, which torch's call does not give: they use
cuDNN's or FlashAttention's operations in half precision, and in float32 the efficient-attention operations, which would
take four times as long in half precision. What remains is the bias, whose columns widen q and k from 64 to 96.

The chunked kernel stores its rectangles of scores in float32, so in half precision it takes 30 to 45 times as long as
torch's attention. With `kernel="flex"` FlexAttention computes such scores (`kernels/flex.py`): see the rows ending in
"flex". Two of them failed in this run, since torch compiled them a second time for shapes of variables. Now each shape
is compiled by itself, as in the tests, which pass for them; they were not timed again. And a learned table of relative
positions took 256 times as long in the backward pass, so a table that learns is left to the chunked kernel now. In
float32 FlexAttention takes longer than the chunked kernel, and is refused.

Sparsemax, entmax and top-k sort or search rows with many small operations, for which a GPU is no faster; there the
package entmax is faster, in memory that grows with n².

{blocks}
"""


def beside(classical):
    """The rows of each number of threads beside each other."""
    threads = sorted(classical, key=int)
    names = [row["name"] for row in classical[threads[0]]]
    titles = [f"{each} thread{'' if each == '1' else 's'}" for each in threads]
    lines = [f"| case | scikit-learn's time, {titles[0]} | {' | '.join(titles)} |", "|---" * (len(threads) + 2) + "|"]
    for name in names:
        rows = [next((row for row in classical[each] if row["name"] == name), None) for each in threads]
        times = f"{rows[0]['milliseconds_beside']:.0f} ms"
        lines.append(f"| {name} | {times} | {' | '.join(map(faster, rows))} |")
    return "\n".join(lines)


def faster(row):
    if row is None:
        return ""
    ratio = row["ratio"]
    mark = "✓" if ratio["median"] >= row["target"] else "✗"
    return f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}] {mark}"


def replaced(text, heading, new):
    """The text with the section under this heading replaced."""
    head, _, rest = text.partition(heading)
    following = re.search(r"^##+ ", rest, re.MULTILINE)
    return head + new + (rest[following.start() :] if following else "")


def page(text, results):
    """The page with its sections from stored runs replaced by those of these results."""
    text = replaced(text, HEADING, section(results))
    text = replaced(text, MICROSCOPE, watched(results["microscope"]))
    text = replaced(text, LIMITS, limits(results["microscope_limits"]))
    text = replaced(text, GRAPHS, graphs(results["classical"]))
    return replaced(text, GPU, on_a_gpu(results["gpu"]))


def kept(results, given):
    """The stored results with those of a run in place of older ones."""
    return results | given | {"classical": results.get("classical", {}) | given.get("classical", {})}


def write(given):
    results = json.loads(KEPT.read_text(encoding="utf-8"))
    for path in map(Path, given):
        run = json.loads(path.read_text(encoding="utf-8"))
        if "limelight" in run:  # of benchmarks.operator
            run = {"gpu": results.get("gpu", {}) | {path.stem: run}}
        results = kept(results, run)
    KEPT.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1:])
