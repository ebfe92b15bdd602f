"""`attach`: watch the attention of a model within a `with` block."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.microscope.recorder import Inputs, Recorder
from limelight.microscope.scope import Scope
from limelight.microscope.torch_layers import watching_torch


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
    `torch.nn.functional.scaled_dot_product_attention`. Queries and keys are kept, in memory linear in the tokens; no
    n × m matrix is, unless a mask or a table of biases is none that a few numbers describe. Gradients are not.

    `separators` are the tokens that separate or end texts, for the measure of that name; None takes those that the
    model's configuration names.

    Raises `InputError` for what is not a model of torch, for a compiled model, for a layer whose attention is another
    one than these, and when the model has run without any attention that could be seen. When the model is called:
    `InputError` if watching changes its output, or if the attention of a layer is more than can be seen.

    >>> import torch
    >>> from limelight import microscope
    >>> model = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    >>> with microscope.attach(model) as scope:
    ...     out = model(torch.randn(1, 6, 8))
    >>> scope.difference, scope[0, 1].shape, len(scope.table()["entropy"])
    (0.0, (6, 6), 2)
    """
    _require_model(model)
    watch = _Watch(model, None if separators is None else frozenset(separators))
    with watch:
        yield watch.scope


class _Watch:
    """The watchers of one model, which can be taken off and put on again."""

    def __init__(self, model: nn.Module, separators: frozenset[int] | None) -> None:
        self.model = model
        self.names = {module: name or type(module).__name__ for name, module in model.named_modules()}
        self.recorder = Recorder()
        self.scope = Scope(self.recorder, model, _separators(model) if separators is None else separators)
        self.mode: Any = nullcontext()
        self._compared: set[nn.Module] = set()
        self._forward: dict[nn.Module, Callable[..., Any]] = {}  # what runs below the wrapper of a model
        self._watchers = ExitStack()

    def __enter__(self) -> None:
        self._put_on()

    def __exit__(self, *problem: Any) -> None:
        self._watchers.close()

    def _put_on(self) -> None:
        with ExitStack() as stack:
            self.mode = stack.enter_context(watching_torch(self.names, self.recorder))
            if any(type(module).__module__.startswith("transformers.") for module in self.names):
                from limelight.microscope.interface import watching_interface

                stack.enter_context(watching_interface(self.names, self.recorder))
            for module in self.names:
                if module is self.model or _is_of_transformers(module):
                    stack.enter_context(self._wrapped(module))
            self._watchers = stack.pop_all()

    @contextmanager
    def _wrapped(self, module: nn.Module) -> Iterator[None]:
        """Within the block, a call of `module.forward` goes through `_called`."""
        own, forward = module.__dict__.get("forward"), module.forward

        @functools.wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            return self._called(module, args, kwargs)

        self._forward[module], module.__dict__["forward"] = forward, run
        try:
            yield
        finally:
            if own is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = own

    def _called(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """A call of the model, or of a model within it."""
        outer = self.recorder.inputs[-1] if self.recorder.is_running else Inputs()
        with self.recorder.running(_inputs(self._forward[module], args, kwargs, outer)) as outermost:
            if not outermost:
                return self._forward[module](*args, **kwargs)
            before = len(self.recorder.calls)
            if module in self._compared:
                with self.mode:
                    return self._forward[module](*args, **kwargs)
            expected = self._unwatched(module, args, kwargs)
            with self.mode:  # only now, since the watchers have been put on again
                out = self._forward[module](*args, **kwargs)
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

    def _compare(self, module: nn.Module, expected: Any, out: Any) -> None:
        right, ours = list(_tensors(expected)), list(_tensors(out))
        if not right:
            return  # nothing can be compared, and `difference` stays None
        alike = len(right) == len(ours)
        off = max(map(_difference, right, ours)) if alike else float("inf")
        self.scope.difference = max(off, self.scope.difference or 0.0)
        if off:
            raise InputError(
                f"watching {type(module).__name__} changes its output by {off:.1g}: it chooses what it computes by the "
                "name of its attention; use limelight.huggingface.transplant, or another attn_implementation"
            )
        self._compared.add(module)


def _require_model(model: nn.Module) -> None:
    if hasattr(model, "_orig_mod"):
        raise InputError("attach cannot look into a compiled model; attach to the model that was compiled")
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("attach cannot look into a scripted model; attach to the model that was scripted")
    if not isinstance(model, nn.Module):
        raise InputError(f"attach expects a torch.nn.Module, got {type(model).__name__}")
    if isinstance(model, nn.DataParallel):
        raise InputError("attach cannot look into the copies of a DataParallel; attach to its .module")


def _separators(model: nn.Module) -> frozenset[int]:
    """The tokens that separate or end texts, by the model's configuration; empty if it names none."""
    config = getattr(model, "config", None)
    found: set[int] = set()
    for name in ("sep_token_id", "eos_token_id"):
        ids = getattr(config, name, None)
        found |= {*ids} if isinstance(ids, (list, tuple)) else set() if ids is None else {ids}
    return frozenset(found)


def _is_of_transformers(module: nn.Module) -> bool:
    """True for a model of transformers. If transformers has not been imported, there is none."""
    transformers = sys.modules.get("transformers")
    return transformers is not None and isinstance(module, transformers.PreTrainedModel)


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


def _inputs(forward: Callable[..., Any], args: Any, kwargs: Any, outer: Inputs) -> Inputs:
    """The tokens, and the masks of tokens (B, length), among a model's arguments.

    A model within another one may get embeddings; if there are as many as `outer` has tokens, they are of these.
    """
    try:
        given = dict(inspect.signature(forward).bind_partial(*args, **kwargs).arguments)
    except TypeError:  # the call itself will say what is wrong
        return Inputs()
    given |= given.get("kwargs", {})
    ids, embedded = _tokens(given.get("input_ids")), given.get("inputs_embeds")
    if ids is None and isinstance(embedded, Tensor) and outer.ids is not None:
        ids = outer.ids if embedded.shape[:2] == outer.ids.shape else None
    return Inputs(
        ids=ids,
        real=_real(given.get("attention_mask")),
        other_real=_real(given.get("encoder_attention_mask")),
    )


def _tokens(ids: Any) -> Tensor | None:
    fits = isinstance(ids, Tensor) and ids.ndim == 2 and not ids.is_floating_point()
    return ids.detach().clone() if fits else None


def _real(mask: Any) -> Tensor | None:
    return mask.detach() > 0 if isinstance(mask, Tensor) and mask.ndim == 2 else None


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


def _tensors(out: Any) -> Iterator[Tensor]:
    """All tensors of a model's output; caches are left out."""
    if isinstance(out, Tensor):
        yield out
    elif isinstance(out, dict):
        for value in out.values():
            yield from _tensors(value)
    elif isinstance(out, (list, tuple)):
        for value in out:
            yield from _tensors(value)
    elif dataclasses.is_dataclass(out):
        for field in dataclasses.fields(out):
            yield from _tensors(getattr(out, field.name))


def _difference(a: Tensor, b: Tensor) -> float:
    """The largest difference; 0 if all numbers are equal, also NaN to NaN, and ∞ for other shapes or dtypes."""
    if a.is_nested or b.is_nested:
        pairs = zip(a.unbind(), b.unbind(), strict=True)
        return max((_difference(x, y) for x, y in pairs), default=0.0)
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    a, b = a.detach(), b.detach()
    differs = (a != b) & ~((a != a) & (b != b))
    if not bool(differs.any()):
        return 0.0
    off = float((a.double() - b.double()).abs()[differs].max())
    return off if off == off else float("inf")
