"""docs/scale.md, from a stored run of `benchmarks.scale` and the cost model."""

from __future__ import annotations

from statistics import mean
from typing import Any

from benchmarks.cost_model import Layer, Machine, cost, limit, sent, shortest

MILLION = 2**20
LARGE = Layer(heads=32, key_heads=8, width=128, bytes=2, is_causal=True)
GPU = Machine(rate=400e12, fast=450e9, slow=50e9, node=8, memory=80e9)
TOKENS, GPUS = (1, 4, 16, 128), (8, 64, 256, 1024)


def page(results: dict[str, Any]) -> str:
    """The whole page."""
    return f"""# Sharded attention: what it costs

How much does each of p processes send, hold and compute, if attention over one sequence is shared among them? {_summary(results)}
This page has what was measured on a few processes, and what follows from it for many GPUs. `python -m benchmarks.scale` measures,
and writes this page.

## Measured

{results["tokens"]:,} tokens, {results["heads"]} heads of width {results["width"]}, float32, one forward and one backward pass,
gloo, one thread for each process, {results["cores"]} cores ({results["processor"]}, torch {results["torch"]}). One process alone calls `limelight.attend`. Work is the
processor time of all processes divided by that of one: 1 would be perfect. That one is timed while the other cores compute the same,
since cores that share caches and memory slow each other down; where there are more processes than cores, they also take turns. Sent
is divided by what the [cost model](#the-cost-model) says, and memory, which is the largest growth of a process (with glibc's
`MALLOC_MMAP_THRESHOLD_` fixed, so that what was freed does not count), by that of one process.
With α = 1 the keys go round once more, for the sums over their columns: there the model's number is 1.5.

{_measured(results)}

Keys go round in up to eight pieces of five hundred rows or more, one piece after the other. So what a rank holds beside its own rows
and their gradients, which is keys and values of two other ranks and the gradients on their way, is a small part of its share where it
has many rows. In the backward pass no block's output is computed again: torch's backward kernel is given the output and
the log-normalizer of all keys.

## The cost model

Of n tokens each of p ranks has n/p. Each piece of its keys takes p steps: in each the rank computes the blocks of its queries and the
keys and values that visit it, while the next ones are on their way. With H query heads and G key heads of width d:

| | forward | backward |
|---|---|---|
| operations | 4 d H for each pair of tokens: scores, and weighted sums of values | 10 d H: five products of the size of these two |
| pairs | n²/p, half of it under a causal mask, for every rank in the order "zigzag" | the same |
| numbers sent | 2 d G (p − 1) n/p: keys and values, p − 1 hops | twice that: keys and values, and their gradients in float32 |
| waits for the link | where a hop takes longer than its block | the same, and for the gradients of the last block |

## Computed for many GPUs

One layer of {LARGE.heads} heads of width {LARGE.width}, {LARGE.key_heads} key heads, bfloat16, causal, forward and backward. These are computed numbers, and the
assumptions are: {GPU.rate / 1e12:.0f} · 10¹² operations a second are sustained on each GPU (an H100's specification says 989);
{GPU.fast / 1e9:.0f} · 10⁹ bytes a second each way between the {GPU.node} GPUs of a node, and {GPU.slow / 1e9:.0f} · 10⁹ between nodes, so that a ring over several nodes is as
slow as its slowest link; {GPU.memory / 1e9:.0f} · 10⁹ bytes of memory; no time for starting kernels and messages; nothing else on the link. It has not been run
on such machines.

{_computed()}

What is reached first is arithmetic, almost everywhere: work grows with n², bytes with n. The link is the limit only if each GPU
has few tokens. Keys and values arrive before they are needed, in the forward pass, from {shortest(LARGE, GPU, GPU.node):,.0f} tokens for each GPU within a node, and from
{shortest(LARGE, GPU, 2 * GPU.node):,.0f} between nodes. Memory for a layer is linear in n/p, and is the limit only where a rank has
some millions of tokens.
"""


def _summary(results: dict[str, Any]) -> str:
    """What most processes cost together, compared with one, in a sentence."""
    alone = {row["case"]: row for row in results["rows"] if row["ranks"] == 1}
    most = max(row["ranks"] for row in results["rows"])
    rows = [row for row in results["rows"] if row["ranks"] == most]
    work = [sum(row["processor"]) / sum(alone[row["case"]]["processor"]) for row in rows]
    held = [max(row["memory"]) / max(alone[row["case"]]["memory"]) for row in rows]
    return (
        f"{most} processes together do {min(work):.2f} to {max(work):.2f} times the work of one, each of them holds "
        f"{min(held):.2f} to {max(held):.2f} times as much, and keys and values go round once in each pass."
    )


def _measured(results: dict[str, Any]) -> str:
    layer = Layer(results["heads"], results["heads"], results["width"], 4, is_causal=False)
    lines = ["| case | p | work | slowest rank, of the mean | sent, forward, of the model | backward | memory |",
             "|---" * 7 + "|"]  # fmt: skip
    alone = {row["case"]: row for row in results["rows"] if row["ranks"] == 1}
    for row in results["rows"]:
        one, ranks, processor = alone[row["case"]], row["ranks"], row["processor"]
        lines.append(
            f"| {row['case']} | {ranks} | {sum(processor) / sum(one['processor']):.2f} "
            f"| {max(processor) / mean(processor):.2f} | {_of_model(row, layer, results['tokens'])} "
            f"| {max(row['memory']) / max(one['memory']):.2f} |"
        )
    return "\n".join(lines)


def _of_model(row: dict[str, Any], layer: Layer, tokens: int) -> str:
    """Bytes sent, divided by those of the model: `forward | backward`."""
    if row["ranks"] == 1:
        return "none | none"
    model = sent(tokens, row["ranks"], layer)
    return " | ".join(f"{max(row[key]) / each:.3f}" for key, each in zip(("forward", "backward"), model, strict=True))


def _computed() -> str:
    lines = [
        "| tokens | GPUs | seconds | of which waiting | sent by each | memory of each | the limit |",
        "|---" * 7 + "|",
    ]
    for millions in TOKENS:
        for ranks in GPUS:
            found = cost(millions * MILLION, ranks, LARGE, GPU)
            lines.append(
                f"| {millions} · 2²⁰ | {ranks:,} | {found.seconds:.3g} | {found.waiting / found.seconds:.1%} "
                f"| {found.sent / 1e9:.3g} GB | {found.memory / 1e9:.3g} GB | {limit(found, GPU)} |"
            )
    return "\n".join(lines)
