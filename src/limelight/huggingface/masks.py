"""Who may see whom in a layer of transformers.

Eager's masks are numbers to be added to the scores. sdpa's are boolean, and left out where torch's kernel can do
without: then `None` means "everything may be seen" or "only the past", and the layer's `is_causal` is asked which.
Where sdpa is not supported that attribute is missing or wrong (NLLB-MoE's decoder says False, Phi-4's image encoder
says True), and layers that do not ask the interface add whatever mask they get to their scores (GIT's text layers). So
under a name of ours the masks are eager's, number by number, and `None` is what it is for eager: nothing is hidden.
They are written out only when a model reads their numbers: an `AdditiveMask` keeps the boolean mask that it was made
of, and a causal one keeps nothing at all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from transformers.masking_utils import sdpa_mask

from limelight.errors import InputError


class AdditiveMask(Tensor):
    """A mask (batch, 1, n, m) of 0 where query i may see key j, and of the least number of its dtype elsewhere.

    `allowed` is the boolean mask that it stands for; None for j ≤ i (a single query sees all keys). A model that does
    anything with it but hand it on, slices or adds it, say, does that with the numbers, and gets a plain tensor.
    """

    allowed: Tensor | None
    _numbers: Tensor | None

    @staticmethod
    def __new__(
        cls, shape: tuple[int, int, int, int], allowed: Tensor | None, dtype: torch.dtype, device: Any
    ) -> AdditiveMask:
        mask: AdditiveMask = Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=device)
        mask.allowed, mask._numbers = allowed, None
        return mask

    def boolean(self) -> Tensor:
        """True where query i may see key j, written out."""
        if self.allowed is not None:
            return self.allowed
        allowed = torch.ones(self.shape[-2:], dtype=torch.bool, device=self.device)
        return allowed.tril() if self.shape[-2] > 1 else allowed

    def numbers(self) -> Tensor:
        """The mask as a plain tensor; kept, since a model that looks once looks again in every layer."""
        if self._numbers is None:
            zero = torch.zeros((), dtype=self.dtype, device=self.device)
            self._numbers = torch.where(self.boolean(), zero, torch.finfo(self.dtype).min).expand(self.shape)
        return self._numbers

    def __tensor_flatten__(self) -> tuple[list[str], torch.dtype]:
        """What a compiled graph, which holds plain tensors, keeps of the mask."""
        self.allowed = self.boolean()
        return ["allowed"], self.dtype

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], dtype: torch.dtype, size: Any, stride: Any) -> AdditiveMask:
        return AdditiveMask(tuple(size), inner["allowed"], dtype, inner["allowed"].device)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        if func is torch.ops.aten.logical_not.default:  # of numbers, that is what may be seen
            raise InputError(
                "this model takes its mask, numbers to be added to the scores, for a boolean one, and so hides what "
                "should be seen, under 'eager' too; call model.set_attn_implementation('sdpa') and use transplant"
            )
        args, kwargs = tree_map_only(AdditiveMask, AdditiveMask.numbers, (args, kwargs or {}))
        return func(*args, **kwargs)

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __repr__(self) -> str:  # type: ignore[override]
        return f"AdditiveMask({tuple(self.shape)}, {'causal' if self.allowed is None else 'boolean'})"


def additive_mask(batch_size: int, *, kv_length: int, **given: Any) -> Tensor | None:
    """Eager's mask, not written out. None where all may be seen.

    sdpa leaves a causal mask out only where queries and keys both start at position 0, or for a single query.
    """
    causal = given.get("allow_is_causal_skip", True)
    if torch.compiler.is_compiling():  # one graph for all masks
        given["allow_is_causal_skip"] = False
    allowed = sdpa_mask(batch_size=batch_size, kv_length=kv_length, **given)
    if allowed is None and not causal:
        return None
    places = given.get("cache_position")  # transformers 5.0 gives the queries' positions, later versions their number
    queries, device = (given["q_length"], given["device"]) if places is None else (len(places), places.device)
    return AdditiveMask((batch_size, 1, queries, kv_length), allowed, given.get("dtype", torch.float32), device)
