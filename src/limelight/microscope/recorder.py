"""Keeps what each attention layer was given, while a model runs."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limelight.errors import InputError
from limelight.microscope.call import Call, Keys, key_heads
from limelight.microscope.memory_trimmer import MemoryTrimmer
from limelight.microscope.pair_bias import PairBias
from limelight.microscope.text_mask import CallMask, Visible, visible
from limelight.microscope.watched_attention import watched

_CHECKED = 2  # steps of a layer that are checked: a whole text, and the first token after it
PerHead = Float[Tensor, "B n H e"]
TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-4, torch.bfloat16: 0.06, torch.float16: 0.01}


@dataclass(frozen=True)
class Observation:
    """What a watcher observed of one call of a layer.

    `allowed` and `bias` are masks over (B or 1, H or 1, n, m): True where a query may see a key, and numbers that are
    added to the scores. `is_causal` means j ≤ i. `offset` is the position of the first query among the keys, where a
    layer adds keys. `output(P @ value, text, queries)` is what the layer's own output would be for these queries of a
    text, and what it is; None where no output can be compared.
    """

    layer: str
    kind: str
    query: Float[Tensor, "B H n d"]
    key: Float[Tensor, "B Hk m d"]
    scale: float
    allowed: Bool[Tensor, "#B #H n m"] | None = None
    is_causal: bool = False
    bias: Float[Tensor, "#B #H n m"] | None = None
    softcap: float | None = None
    sinks: Tensor | None = None
    is_cross: bool = False
    offset: int | None = None
    masks: tuple[Tensor | None, ...] = ()  # the tensors from which `allowed` and `bias` were made
    value: Float[Tensor, "B Hk m e"] | None = None
    output: Callable[[Float[Tensor, "n H e"], int, Tensor], tuple[Tensor, Tensor]] | None = None


@dataclass
class Inputs:
    """The tokens with which the innermost running model was called, and which of them its mask marks as real."""

    ids: Tensor | None = None
    real: Bool[Tensor, "B length"] | None = None
    other_real: Bool[Tensor, "B length"] | None = None  # of the text that cross-attention reads


@dataclass
class Recorder:
    """The calls so far, and the state of the pass that is running."""

    calls: list[Call] = field(default_factory=list)
    inputs: list[Inputs] = field(default_factory=list)  # of the models that are running, the innermost last
    is_told: bool = False  # while a layer runs that reports by itself
    _freed: MemoryTrimmer = field(default_factory=MemoryTrimmer)
    _runs: Counter[str] = field(default_factory=Counter)  # how often each layer was called in this pass
    _steps: Counter[tuple[str, int]] = field(default_factory=Counter)
    _latest: dict[tuple[str, int], Call] = field(default_factory=dict)
    _shared: dict[Any, tuple[Inputs, Sequence[Any], Any]] = field(default_factory=dict)

    @contextmanager
    def running(self, inputs: Inputs) -> Iterator[bool]:
        """While a model runs. Yields True for the outermost one, with which a pass begins."""
        outermost = not self.inputs
        before = (len(self.calls), self._steps.copy(), self._latest.copy()) if outermost else None
        if outermost:
            self._runs.clear()
        self.inputs.append(inputs)
        try:
            yield outermost
        except BaseException:
            if before is not None:  # a pass that was not finished is forgotten
                count, self._steps, self._latest = before
                del self.calls[count:]
            raise
        finally:
            self.inputs.pop()
            if outermost:
                self._shared.clear()

    @property
    def is_running(self) -> bool:
        return bool(self.inputs)

    def runs_of(self, layer: str) -> int:
        """How often this layer was recorded in the present pass."""
        return self._runs[layer]

    def skip(self, layer: str) -> None:
        """Count a call of this layer that is not recorded."""
        self._runs[layer] += 1

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Within the block a watched layer runs its own function, inside which no other call is recorded."""
        before, self.is_told = self.is_told, True
        try:
            yield
        finally:
            self.is_told = before

    def result(self, seen: Observation, out: PerHead, weights: Tensor | None = None) -> tuple[PerHead, Tensor | None]:
        """Keep the call. Returns the output of its heads and their weights, which watching does not change."""
        self.record(seen)
        return out, weights

    def changes(self, layer: str) -> bool:
        """True if this layer's output will be another one, so that it must not run a path that shows no heads."""
        return False

    @torch.no_grad()
    def record(self, seen: Observation) -> Call:
        """Keep the call, after a check that P @ value is the layer's own output, the first times that a layer runs."""
        name = (seen.layer, self._runs[seen.layer])
        self._runs[seen.layer] += 1
        seen = self._filled(expanded(seen))
        before, now = self._latest.get(name), self.inputs[-1]
        keys, follows = _keys(seen, before)
        real = _real_keys(seen, now, before if follows else None)
        history = self._history(seen, before if follows else None)
        texts = self._once(("texts", *_sizes(seen)), seen.masks, lambda: _visible(seen, now, real))
        call = Call(
            *name,
            step=self._steps[name],
            kind=seen.kind,
            is_cross=seen.is_cross,
            query=seen.query.detach(),
            keys=keys,
            m=seen.key.shape[-2],
            scale=seen.scale,
            softcap=seen.softcap,
            sinks=None if seen.sinks is None else seen.sinks.detach(),
            texts=texts,
            biases=self._once(("bias", *_sizes(seen)), seen.masks, lambda: _biases(seen, texts)),
            has_first=not follows or _length(history, now) <= seen.key.shape[-2],
            history=history,
            reader=now,
        )
        if self._steps[name] < _CHECKED and seen.value is not None and seen.output is not None:
            with self.telling():  # the check calls attention, too
                _require_explained(call, seen)
        self._steps[name] += 1
        self._latest[name] = call
        self.calls.append(call)
        self._freed.keeping(seen.query.nbytes + seen.key.nbytes)
        return call

    def _filled(self, seen: Observation) -> Observation:
        """The observation without the end of a cache of fixed size that is not filled yet, and that no query sees."""
        n, m = seen.query.shape[-2], seen.key.shape[-2]
        if seen.is_cross or n >= m or seen.offset is not None:
            return seen
        end = n if seen.is_causal else m
        if seen.allowed is not None:
            end = self._once(("end", *_sizes(seen)), seen.masks, lambda: _end(seen.allowed))
        if end in (0, m):
            return seen
        cut = [None if x is None else x[..., :end] for x in (seen.allowed, seen.bias)]
        value = None if seen.value is None else seen.value[..., :end, :]
        return replace(seen, key=seen.key[..., :end, :], value=value, allowed=cut[0], bias=cut[1])

    def _once(self, kind: tuple[Any, ...], masks: Sequence[Tensor | None], make: Callable[[], Any]) -> Any:
        """make(), once for all layers that are given the same masks in this pass: reading a mask costs n · m."""
        given, now = [mask for mask in masks if mask is not None], self.inputs[-1]
        at = (kind, id(now), *(id(mask) for mask in given))
        if at in self._shared:
            _, references, found = self._shared[at]  # an id may have been given to a new mask since
            if all(r() is mask for r, mask in zip(references, given, strict=True)):
                return found
        found = make()
        self._shared[at] = (now, [weakref.ref(mask) for mask in given], found)
        return found

    def _history(self, seen: Observation, before: Call | None) -> Tensor | None:
        """All tokens so far of the text that the keys are of (B, length), or None if they are unknown."""
        m, n, ids = seen.key.shape[-2], seen.query.shape[-2], self.inputs[-1].ids
        if seen.is_cross:
            return self._history_of_other(m) if before is None else before.history
        if ids is None or len(ids) != len(seen.query):
            return None
        if ids.shape[-1] == m:
            return ids
        if before is None or before.history is None or ids.shape[-1] != n:
            return None
        return torch.cat([before.history, ids], -1)

    def _history_of_other(self, m: int) -> Tensor | None:
        """The tokens of the m keys of cross-attention: those of the latest whole text that another model has read.

        What this model itself reads is left out, since a decoder's text may be as long as the encoder's.
        """
        own = self.inputs[-1]
        for call in reversed(self.calls):
            if call.reader is not own and not call.is_cross and call.m == m == call.query.shape[-2]:
                return call.history
        return None


def expanded(seen: Observation) -> Observation:
    """The observation with queries for each text and a mask row for each query, where one served for all."""
    n, texts = seen.query.shape[-2], max(len(seen.query), len(seen.key))
    query = seen.query.expand(texts, -1, -1, -1)
    masks = [None if x is None else x.expand(*x.shape[:-2], n, -1) for x in (seen.allowed, seen.bias)]
    return replace(seen, query=query, allowed=masks[0], bias=masks[1])


def _keys(seen: Observation, before: Call | None) -> tuple[Keys, bool]:
    """(the keys, True if they go on with those of the layer's last call, as with a cache, or are the same ones)."""
    key, n = _lasting(seen.key), seen.query.shape[-2]
    if before is None:
        return Keys(key), False
    if seen.is_cross:
        return before.keys.same(key)
    return before.keys.after(key, n) if n < key.shape[-2] else (Keys(key), False)


def _real_keys(seen: Observation, now: Inputs, before: Call | None) -> Tensor | None:
    """Which keys (B, m) are no padding by the attention masks of this call and earlier ones; None without a mask."""
    m = seen.key.shape[-2]
    if seen.is_cross:
        return now.other_real if now.other_real is not None and now.other_real.shape[1] == m else None
    if now.real is not None and now.real.shape[1] >= m:
        return now.real[:, now.real.shape[1] - m :]
    if before is None:
        return None
    real = torch.zeros(len(before.texts), before.m, dtype=torch.bool)
    for own, text in zip(real, before.texts, strict=True):
        own[text.keys] = True
    kept = m - seen.query.shape[-2]
    return torch.nn.functional.pad(real[:, before.m - kept :], (0, m - kept), value=True).to(seen.key.device)


def _visible(seen: Observation, now: Inputs, real_keys: Tensor | None) -> list[Visible]:
    n = seen.query.shape[-2]
    real = now.real if now.real is not None and now.real.shape[1] >= n else None
    return visible(
        CallMask(
            texts=len(seen.query),
            n=n,
            m=seen.key.shape[-2],
            allowed=seen.allowed,
            is_causal=seen.is_causal,
            is_cross=seen.is_cross,
            real_queries=None if real is None else real[:, real.shape[1] - n :],
            real_keys=real_keys,
            offset=seen.offset,
        )
    )


def _length(history: Tensor | None, now: Inputs) -> int:
    """The length of the text so far; 0 if it is unknown."""
    if history is not None:
        return history.shape[1]
    return 0 if now.real is None else now.real.shape[1]


def _end(allowed: Tensor | None) -> int:
    """The number of keys up to the last one that some query sees."""
    assert allowed is not None
    seen = allowed.flatten(0, -2).any(0).nonzero()
    return int(seen[-1]) + 1 if len(seen) else 0


def _sizes(seen: Observation) -> tuple[Any, ...]:
    return (*seen.query.shape[:3], seen.key.shape[-2], seen.is_causal, seen.is_cross, seen.offset)


def _lasting(key: Tensor) -> Tensor:
    """The keys, copied if they are a buffer that later tokens are written into, as in a cache of fixed size."""
    key = key.detach()
    return key.clone() if key.is_inference() or key._version else key


def _biases(seen: Observation, texts: Sequence[Visible]) -> list[PairBias | None]:
    """For each text what is added to its scores; one object for all texts that have the same."""
    if seen.bias is None:
        return [None] * len(texts)
    found: dict[Any, PairBias | None] = {}
    out = []
    for text, own in enumerate(texts):
        at = text if len(seen.bias) > 1 else 0
        name = (at, tuple(own.queries.tolist()), tuple(own.keys.tolist()))
        if name not in found:
            table = seen.bias[at].expand(-1, seen.query.shape[-2], seen.key.shape[-2])
            table = table[:, own.queries.to(table.device)][:, :, own.keys.to(table.device)].detach()
            found[name] = PairBias.of(table) if len(own.queries) and len(own.keys) and bool(table.any()) else None
        out.append(found[name])
    return out


def _require_explained(call: Call, seen: Observation) -> None:
    """Raise `InputError` unless the layer's own output is P @ value for each text, up to rounding."""
    assert seen.value is not None
    assert seen.output is not None
    for text, own in enumerate(call.texts):
        if not len(own.queries) or not len(own.keys):
            continue
        value = seen.value[min(text, len(seen.value) - 1)]
        value = key_heads(value, call.heads)[:, own.keys.to(value.device)]
        P = watched(call, 0, text)
        mixed, call.normalizers[text] = P.apply_with_logsumexp(value.to(P.dtype))
        ours, theirs = seen.output(mixed.transpose(0, 1), text, own.queries.to(value.device))
        size = max(1.0, float(value.abs().max()))
        off = float((ours.to(theirs.dtype) - theirs).abs().max()) / size
        if not off <= TOLERANCE.get(seen.query.dtype, 2e-4):
            raise InputError(
                f"{seen.layer} ({seen.kind}) cannot be watched: its output differs by {off:.1g} from what its queries, "
                "keys, mask and scale give, so its attention does more than can be seen from outside"
            )
