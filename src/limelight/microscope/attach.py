"""`attach`: watch the attention of a model within a `with` block."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.microscope.outputs import Remembered, difference, remembered, tensors_of
from limelight.microscope.recorder import Recorder
from limelight.microscope.scope import Scope
from limelight.microscope.watch import Watch


@contextmanager
def attach(model: nn.Module, *, separators: Iterable[int] | None = None) -> Iterator[Scope]:
    """Watch the attention of a model: what happens in every head while it runs, and nothing about it changes.

    Within the `with` block, each call of the model is recorded: for every attention layer the queries and keys as they
    enter its softmax (after rotary positions, normalization and the cache), its mask, scale, position bias, cap and
    sinks. The layer's own attention still computes the output. The first call is made twice, once without the watchers,
    and the outputs must be equal to the bit; `scope.difference` is the largest difference. The first time that a layer
    runs, its output must be P @ value, so that P is the attention that it computes. After the block, also after an
    exception, the model is as it was, and the scope keeps what was seen.

    Watched are the layers of transformers that use its AttentionInterface (with the attention "sdpa" or "eager"),
    `nn.MultiheadAttention`, `nn.TransformerEncoderLayer`, and every module that calls
    `torch.nn.functional.scaled_dot_product_attention`. Queries and keys are kept, without gradients and in memory
    linear in the tokens. An n × m matrix is kept only for a mask or a table of position biases that a few numbers
    cannot describe.

    `separators` are the tokens that separate or end texts, for the measure of that name; None takes those that the
    model's configuration names.

    Raises `InputError` for what is not a model of torch, for a compiled model, for a layer with another kind of
    attention, and if the model has run and none of its attention could be watched. When the model is called:
    `InputError` if watching changes its output, or if a layer's attention depends on something that is not watched.

    >>> import torch
    >>> from limelight import microscope
    >>> model = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    >>> with microscope.attach(model) as scope:
    ...     out = model(torch.randn(1, 6, 8))
    >>> scope.difference, scope[0, 1].shape, len(scope.table()["entropy"])
    (0.0, (6, 6), 2)
    """
    require_model(model)
    recorder = Recorder()
    scope = Scope(recorder, model, separators_of(model) if separators is None else frozenset(separators))
    with Compared(model, recorder, scope):
        yield scope


class HasDifference(Protocol):
    """A scope, or what else keeps the largest difference of a model's outputs."""

    difference: float | None


class Compared(Watch):
    """Watchers that must not change what a model returns: its first call is made without them, too."""

    def __init__(self, model: nn.Module, recorder: Recorder, told: HasDifference) -> None:
        super().__init__(model, recorder)
        self.told = told  # how much the outputs differ
        self._compared: set[nn.Module] = set()

    def _outermost(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        before = len(self.recorder.calls)
        if module in self._compared:
            return super()._outermost(module, args, kwargs)
        expected = [remembered(x) for x in tensors_of(self._unwatched(module, args, kwargs))]
        out = super()._outermost(module, args, kwargs)  # only now, since the watchers have been put on again
        self._compare(module, expected, out)
        if module is self.model and len(self.recorder.calls) == before:
            raise InputError(_nothing_seen(self.model))
        return out

    def _unwatched(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """What the model returns without the watchers. Random numbers, caches and buffers are then as before."""
        self._watchers.close()
        devices = sorted({p.device.index for p in module.parameters() if p.device.type == "cuda"})
        buffers = {name: b.clone() for name, b in module.named_buffers()} if module.training else {}
        try:
            with torch.random.fork_rng(devices=devices):
                return module.forward(*_copied(args), **_copied(kwargs))
        finally:
            with torch.no_grad():
                for name, value in buffers.items():
                    module.get_buffer(name).copy_(value)
            self._put_on()

    def _compare(self, module: nn.Module, right: Sequence[Remembered], out: Any) -> None:
        ours = list(tensors_of(out))
        if not right:
            return  # nothing can be compared, and `difference` stays None
        alike = len(right) == len(ours)
        off = max(map(difference, right, ours)) if alike else float("inf")
        self.told.difference = max(off, self.told.difference or 0.0)
        if off:
            raise InputError(
                f"watching {type(module).__name__} changes its output by {off:.1g}: what it computes depends on the "
                "name of its attention; use limelight.huggingface.transplant, or another attn_implementation"
            )
        self._compared.add(module)


def require_model(model: nn.Module) -> None:
    if hasattr(model, "_orig_mod"):
        raise InputError("attach cannot look into a compiled model; attach to the model that was compiled")
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("attach cannot look into a scripted model; attach to the model that was scripted")
    if not isinstance(model, nn.Module):
        raise InputError(f"attach expects a torch.nn.Module, got {type(model).__name__}")
    if isinstance(model, nn.DataParallel):
        raise InputError("attach cannot look into the copies of a DataParallel; attach to its .module")


def separators_of(model: nn.Module) -> frozenset[int]:
    """The tokens that separate or end texts, by the model's configuration; empty if it names none."""
    config = getattr(model, "config", None)
    found: set[int] = set()
    for name in ("sep_token_id", "eos_token_id"):
        ids = getattr(config, name, None)
        found |= {*ids} if isinstance(ids, (list, tuple)) else set() if ids is None else {ids}
    return frozenset(found)


def _nothing_seen(model: nn.Module) -> str:
    names = [name for name, module in model.named_modules() if "attention" in type(module).__name__.lower()]
    if not names:
        return (
            f"{type(model).__name__} ran without any attention that can be watched: no layer of transformers' "
            "AttentionInterface, no nn.MultiheadAttention, and no call of scaled_dot_product_attention"
        )
    module = model.get_submodule(names[0])
    return (
        f"{type(model).__name__} ran, but its attention cannot be watched: {names[0] or 'it'} "
        f"({type(module).__name__}) computes its weights by itself, without scaled_dot_product_attention or "
        "transformers' AttentionInterface"
    )


def _copied(value: Any) -> Any:
    """The arguments of a call, with caches copied, since a call writes into them; tensors are passed as they are."""
    if isinstance(value, (Tensor, str, int, float, bool, type(None))):
        return value
    if type(value) in (list, tuple):
        return type(value)(_copied(x) for x in value)
    if type(value) is dict:
        return {key: _copied(x) for key, x in value.items()}
    if isinstance(value, dict):  # outputs of an encoder
        return value
    return copy.deepcopy(value)
