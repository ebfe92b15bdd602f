"""The watchers of a model's attention, put on for a time: what `attach` and `intervene` share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn

from limelight.microscope.recorder import Inputs, Recorder
from limelight.microscope.torch_layers import watching_torch


class Watch:
    """The watchers of one model, which report to a recorder, and can be taken off and put on again."""

    def __init__(self, model: nn.Module, recorder: Recorder) -> None:
        self.model, self.recorder = model, recorder
        self.names = {module: name or type(module).__name__ for name, module in model.named_modules()}
        self.mode: Any = nullcontext()
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
            return self._outermost(module, args, kwargs)

    def _outermost(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """A call of a model that is not part of another call."""
        with self.mode:
            return self._forward[module](*args, **kwargs)


def _is_of_transformers(module: nn.Module) -> bool:
    """True for a model of transformers, recognized by the names of its bases, so that nothing has to be imported."""
    bases = type(module).__mro__
    return any(base.__name__ == "PreTrainedModel" and base.__module__.startswith("transformers.") for base in bases)


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
