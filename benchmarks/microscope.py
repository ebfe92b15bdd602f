"""The microscope beside TransformerLens and eager attention: `python -m benchmarks.microscope`

All read the same tokens with the same GPT-2 of random weights, on one thread, and give the entropy of each head. The
peers store every matrix of weights: TransformerLens in its cache, eager in `output_attentions`. Limelight runs the
model twice, to make sure that watching changes nothing, and stores no matrix. Jobs take turns in one process; the peak
memory of each is taken in a process of its own. Writes JSON, and the section of docs/speed.md is written from it by
`python -m docs.speed`. TransformerLens is optional: `pip install transformer-lens` in an environment of one's own.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Job, Ratio, neighbors, peak_bytes, seconds
from limelight import microscope
from limelight.microscope import MEASURES

LAYERS, HEADS, WIDTH, WORDS = 12, 12, 64, 1000
LENGTHS, ROUNDS = (256, 1024, 2048), 5
TOLERANCE = 1e-4  # of the entropies, in nats
ENTROPY = [measure for measure in MEASURES if measure.name == "entropy"]


def model(tokens: int) -> Any:
    """GPT-2 with the layers and heads of its smallest version, and weights large enough for sharp attention."""
    import transformers as hf

    torch.manual_seed(0)
    config = hf.GPT2Config(
        n_layer=LAYERS, n_head=HEADS, n_embd=HEADS * WIDTH, n_positions=tokens, vocab_size=WORDS,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    made = hf.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for layer in made.transformer.h:
            layer.attn.c_attn.weight[:, : 2 * HEADS * WIDTH] *= 4
    return made


def ids(tokens: int) -> Tensor:
    return torch.randint(WORDS, (1, tokens), generator=torch.Generator().manual_seed(0))


def entropies(p: Tensor) -> Tensor:
    """The mean entropy of each head, from weights (1, heads, n, n)."""
    return torch.special.entr(p).sum(-1).mean(-1)[0]


def plain(tokens: int) -> Job:
    made, x = model(tokens), ids(tokens)
    return lambda: _without_gradients(lambda: made(x, use_cache=False).logits)


def limelight(tokens: int, measures: Any = ENTROPY) -> Job:
    made, x = model(tokens), ids(tokens)

    def run() -> Tensor:
        with microscope.attach(made) as scope:
            made(x, use_cache=False)
        return torch.tensor(scope.table(measures)["entropy"]).view(LAYERS, HEADS)

    return lambda: _without_gradients(run)


def limelight_all(tokens: int) -> Job:
    return limelight(tokens, MEASURES)


def eager(tokens: int) -> Job:
    made, x = model(tokens), ids(tokens)
    made.set_attn_implementation("eager")

    def run() -> Tensor:
        found = made(x, use_cache=False, output_attentions=True).attentions
        return torch.stack([entropies(p) for p in found])

    return lambda: _without_gradients(run)


def transformer_lens(tokens: int) -> Job:
    import transformers
    from transformer_lens.model_bridge import TransformerBridge

    with tempfile.TemporaryDirectory() as folder:  # the tokenizer is not used, but read from its files once more
        tokenizer().save_pretrained(folder)
        own = transformers.AutoTokenizer.from_pretrained(folder)
        bridge = TransformerBridge.boot_transformers("gpt2", hf_model=model(tokens), tokenizer=own)
    x, wanted = ids(tokens), [f"blocks.{layer}.attn.hook_pattern" for layer in range(LAYERS)]

    def run() -> Tensor:
        _, cache = bridge.run_with_cache(x, names_filter=wanted)
        return torch.stack([entropies(cache[name]) for name in wanted])

    return lambda: _without_gradients(run)


JOBS: dict[str, Callable[[int], Job]] = {
    "Limelight, entropy": limelight,
    "Limelight, all measures": limelight_all,
    "TransformerLens, entropy": transformer_lens,
    "eager, entropy": eager,
}


def _without_gradients(run: Callable[[], Tensor]) -> Tensor:
    with torch.no_grad():
        return run()


def tokenizer() -> Any:
    """Of words w0 to w999: TransformerLens wants a tokenizer, and so does a page."""
    import tokenizers
    import transformers as hf

    words = tokenizers.models.WordLevel({f"w{i}": i for i in range(WORDS)}, unk_token="w0")
    made = tokenizers.Tokenizer(words)
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="w0", eos_token="w0", pad_token="w0", unk_token="w0"
    )


def _built(name: str, tokens: int) -> Job:
    """A job for a process that measures its memory; it has run once on a few tokens."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    make = plain if name == "plain" else JOBS[name]
    make(16)()
    return make(tokens)


def measured(tokens: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each job: its time over that of a plain run, its peak memory, and how far its entropies are off."""
    baseline, right, rows = plain(tokens), eager(tokens)(), []
    memory = peak_bytes(_built, "cpu", "plain", tokens)
    for name, make in JOBS.items():
        row: dict[str, Any] = {"tokens": tokens, "name": name, "ratio": None, "memory": None, "off": None, "note": ""}
        try:
            job = make(tokens)
            row["off"] = float((job() - right).abs().max())
            seconds(baseline, "cpu")
            pairs = [neighbors(baseline, [job], "cpu")[0] for _ in range(rounds)]
            row["ratio"] = asdict(Ratio.of([own / beside for own, beside in pairs]))
            row["milliseconds"] = 1e3 * sorted(beside for _, beside in pairs)[rounds // 2]
            row["memory"], row["memory_beside"] = peak_bytes(_built, "cpu", name, tokens), memory
            del job
        except ImportError as missing:
            row["note"] = f"not measured: {missing}"
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def table(results: dict[str, Any]) -> str:
    """The rows as a table in Markdown."""
    s = results["setting"]
    lines = [
        f"{s['on']}, {s['threads']} thread, torch {s['torch']}, transformers {s['transformers']}, TransformerLens "
        f"{s['transformer_lens'] or 'not installed'}, float32",
        "",
        "| tokens | job | time over a plain run | peak memory | largest difference to eager's entropies |",
        "|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        if row["ratio"] is None:
            lines.append(f"| {row['tokens']:,} | {row['name']} | {row['note']} | | |")
            continue
        ratio = Ratio(**row["ratio"])
        time = f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
        memory = f"{row['memory'] / 1e6:,.0f} MB (plain: {row['memory_beside'] / 1e6:,.0f} MB)"
        mark = "✓" if row["off"] <= TOLERANCE else "✗"
        lines.append(f"| {row['tokens']:,} | {row['name']} | {time} | {memory} | {row['off']:.0e} {mark} |")
    return "\n".join(lines)


def version(name: str) -> str | None:
    import importlib.metadata

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.microscope", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--tokens", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    path = Path(__file__).parent / "results" / "microscope-cpu.json"
    parser.add_argument("--json", type=Path, default=path, metavar="PATH")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    setting = {"threads": 1, "torch": torch.__version__, "on": f"{platform.machine()} CPU"}
    setting |= {"transformers": version("transformers"), "transformer_lens": version("transformer-lens")}
    rows = [row for tokens in asked.tokens for row in measured(tokens, asked.rounds)]
    results = {"setting": setting, "rows": rows}
    print(table(results))
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps({"microscope": results}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
