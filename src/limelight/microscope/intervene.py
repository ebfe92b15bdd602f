"""A model runs with some of its heads changed.

Nothing of the model's code is replaced. The same watchers as in `attach` see what each layer was given; for a layer
with changed heads, `_Changing` puts other numbers into the layer's output at these heads, and everything after it runs
on them. The first times that such a layer runs, its own output must be P @ value, so that what is changed is what the
layer computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight import check
from limelight.errors import InputError
from limelight.microscope.call import Call, sinks_of
from limelight.microscope.head_inputs import HeadInputs
from limelight.microscope.interventions import Ablate, AttentionChange, Intervention
from limelight.microscope.recorder import Observation, PerHead, Recorder, expanded
from limelight.microscope.text_mask import Visible
from limelight.microscope.watch import Watch
from limelight.similarity import upcast

Name = tuple[str, int]  # a layer: a module's name, and which of its calls in a pass this is
Plan = Mapping[Name, Mapping[int, Sequence[Intervention]]]  # what is changed in each head of each layer


def planned(
    changes: Sequence[Intervention],
    layers: Mapping[Name, int],
    place: Callable[[int | str, int], tuple[Name, int]],
) -> Plan:
    """What is changed in each head; `layers` gives each layer's number of heads, `place` finds a pair (layer, head).

    Raises `InputError` for what is no `Intervention`, for two changes of one kind of the same head, for a pair that is
    not there, and if every head is ablated.
    """
    plan: dict[Name, dict[int, list[Intervention]]] = {}
    every = [(name, head) for name, heads in layers.items() for head in range(heads)]
    for change in changes:
        check.instance("each change", change, Intervention)
        for name, head in every if change.heads is None else [place(*pair) for pair in change.heads]:
            of_head = plan.setdefault(name, {}).setdefault(head, [])
            if any(type(other) is type(change) for other in of_head):
                raise InputError(
                    f"head {head} of {name[0]} is changed by two {type(change).__name__}; give one for each head"
                )
            of_head.append(change)
    ablated = sum(isinstance(change, Ablate) for heads in plan.values() for of in heads.values() for change in of)
    if ablated == len(every):
        raise InputError(f"this ablates all {ablated} heads of the model, which leaves no attention; leave some out")
    return plan


@contextmanager
def intervened(model: nn.Module, plan: Plan) -> Iterator[None]:
    """Within the block the model runs with these heads changed; after it, also after an exception, it is as it was.

    Raises `InputError` at the end of the block if a layer with changed heads did not run in it.
    """
    changing = _Changing(plan)
    with Watch(model, changing):
        yield
    if missed := [layer for layer, _ in plan if layer not in changing.changed]:
        raise InputError(
            f"{missed[0]} did not run within the block, so nothing of it was changed; call the model there"
        )


@dataclass
class _Sum:
    """The sum of a layer's outputs over the tokens of each text so far, which a cache hands on to the next call."""

    total: Float[Tensor, "B H e"]
    counts: list[int]
    queries: int  # padding counted


class _Changing(Recorder):
    """A recorder that keeps no call for longer than a cache may need it, and returns other outputs."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.changed: set[str] = set()  # the layers that ran
        self._sums: dict[Name, _Sum] = {}

    def changes(self, layer: str) -> bool:
        return any(layer == name for name, _ in self.plan)

    def result(self, seen: Observation, out: PerHead, weights: Tensor | None = None) -> tuple[PerHead, Tensor | None]:
        of_heads = self.plan.get((seen.layer, self.runs_of(seen.layer)))
        if of_heads is None:
            self.skip(seen.layer)
            return out, weights
        _require_no_dropout(seen)
        call, seen = self.record(seen), expanded(seen)  # the call has no gradients
        self.calls.clear()
        self.changed.add(seen.layer)
        with self.telling():  # the changed heads call attention, too
            out, weights = _with_changed_attention(call, seen, of_heads, out, weights)
            return self._with_ablated(call, seen, of_heads, out), weights

    def _with_ablated(
        self, call: Call, seen: Observation, of_heads: Mapping[int, Sequence[Intervention]], out: PerHead
    ) -> PerHead:
        chosen = {to: _ablated(of_heads, to) for to in ("mean", "zero")}
        if chosen["zero"]:
            out = _replaced(out, chosen["zero"], torch.zeros((), dtype=out.dtype, device=out.device))
        if chosen["mean"]:
            sums = self._summed(call, out, has_cache=not call.is_cross and seen.offset is None)
            means = sums.total / torch.tensor(sums.counts, device=out.device).clamp(min=1)[:, None, None]
            out = _replaced(out, chosen["mean"], means[:, None, chosen["mean"]].to(out.dtype))
        return out

    def _summed(self, call: Call, out: PerHead, has_cache: bool) -> _Sum:
        """The sums over the texts so far, these queries included; with a cache some tokens came in earlier calls."""
        wide = upcast(out)
        total = torch.stack([wide[text, own.queries.to(out.device)].sum(0) for text, own in enumerate(call.texts)])
        now = _Sum(total, [len(own.queries) for own in call.texts], out.shape[1])
        if has_cache and out.shape[1] < call.m:
            now = _added(self._before(call), now)
        if 1 in now.counts:
            raise InputError(
                f"{call.layer} got a single token, whose own output is the mean over the text, so that the mean "
                'ablates nothing; use Ablate(heads, to="zero"), or a longer text'
            )
        self._sums[call.name] = now
        return now

    def _before(self, call: Call) -> _Sum:
        """The sums over the tokens whose keys are in the cache."""
        before, n = self._sums.get(call.name), call.query.shape[-2]
        follows = before is not None and (before.queries + n == call.m or not call.has_first)
        if before is None or not follows or len(before.counts) != len(call.texts):
            raise InputError(
                f"{call.layer} got {n} new tokens after {call.m - n} in a cache that was filled outside the block, so "
                "that the mean over the text is unknown; let the model read the whole text within the block"
            )
        return before


def _added(a: _Sum, b: _Sum) -> _Sum:
    counts = [x + y for x, y in zip(a.counts, b.counts, strict=True)]
    return _Sum(a.total + b.total, counts, a.queries + b.queries)


def _ablated(of_heads: Mapping[int, Sequence[Intervention]], to: str) -> list[int]:
    return [head for head, changes in of_heads.items() if any(isinstance(c, Ablate) and c.to == to for c in changes)]


def _replaced(out: PerHead, heads: list[int], values: Tensor) -> PerHead:
    """The output with these values (B or 1, 1, heads, e) at these heads."""
    at = torch.tensor(heads, device=out.device)
    shape = (out.shape[0], out.shape[1], len(heads), out.shape[3])
    return out.index_copy(2, at, values.expand(shape))


def _with_changed_attention(
    call: Call, seen: Observation, of_heads: Mapping[int, Sequence[Intervention]], out: PerHead, weights: Tensor | None
) -> tuple[PerHead, Tensor | None]:
    """The outputs, and the weights if there are any, with those of changed operators P at their heads and queries."""
    groups: dict[tuple[AttentionChange, ...], list[int]] = {}  # heads with the same changes are computed together
    for head, changes in of_heads.items():
        found = tuple(change for change in changes if isinstance(change, AttentionChange))
        if found:
            groups.setdefault(found, []).append(head)
    if not groups:
        return out, weights
    out, weights = out.clone(), None if weights is None else weights.clone()
    for text, own in enumerate(call.texts):
        if not len(own.queries) or not len(own.keys):
            continue
        for changes, heads in groups.items():
            inputs = _inputs_of(call, seen, text, own, heads)
            for change in changes:
                inputs = change.change(inputs)
            rows, columns = own.queries.to(out.device)[:, None], torch.tensor(heads, device=out.device)
            out[text, rows, columns] = inputs.output().transpose(0, 1).to(out.dtype)
            if weights is not None:
                keys = own.keys.to(out.device)
                weights[text, columns[:, None, None], rows, keys] = inputs.attention().dense().to(weights.dtype)
    return out, weights


def _inputs_of(call: Call, seen: Observation, text: int, own: Visible, heads: list[int]) -> HeadInputs:
    """What these heads read in one text, without its padding, and with gradients."""
    assert seen.value is not None
    key, value = (x[..., : call.m, :] for x in (seen.key, seen.value))  # without what a cache has not filled yet
    device, bias = seen.query.device, call.biases[text]
    at, queries, keys = torch.tensor(heads, device=device), own.queries.to(device), own.keys.to(device)
    sinks = sinks_of(seen.sinks, text, queries)
    return HeadInputs(
        q=seen.query[text, at][:, queries],
        k=_of_heads(key, text, at, call.heads)[:, keys],
        v=_of_heads(value, text, at, call.heads)[:, keys],
        scale=call.scale,
        mask=own.of_heads(heads),
        softcap=call.softcap,
        sinks=None if sinks is None else sinks[at],
        bias=None if bias is None else bias.heads(heads),
        positions=own.positions,
        has_first=call.has_first,
        where=call.layer,
    )


def _of_heads(x: Float[Tensor, "B Hk m e"], text: int, heads: Tensor, total: int) -> Float[Tensor, "heads m e"]:
    """The keys or values of these query heads; of grouped heads several share one."""
    own = x[min(text, len(x) - 1)]
    return own[heads // (total // len(own))]


def _require_no_dropout(seen: Observation) -> None:
    if seen.value is None:
        raise InputError(
            f"{seen.layer} drops weights at random, so that its heads cannot be changed; call model.eval() first"
        )
