"""The masks of layers in transformers.

The masks of "eager" are numbers to be added to the scores. Those of "sdpa" are boolean, and are left out where torch's
kernel needs none: then `None` means "every key may be seen" or "only the past", and the layer's attribute `is_causal`
says which. In models without support for sdpa that attribute is missing or wrong (NLLB-MoE's decoder has False, Phi-4's
image encoder has True), and layers that do not use the interface add any mask that they get to their scores (GIT's text
layers). So under a registered name the masks have the numbers of eager's, and `None` means, as for eager, that nothing
is hidden. The numbers are computed only when a model reads them: an `AdditiveMask` stores the boolean mask that it was
made from, and a causal one stores nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from transformers.masking_utils import sdpa_mask

from limelight.errors import InputError


class AdditiveMask(Tensor):
    """A mask (batch, 1, n, m) that is 0 where query i may see key j, and the least number of its dtype elsewhere.

    `allowed` is the boolean mask that it stands for, or None for j ≤ i (a single query sees all keys). Any operation on
    it, such as slicing or adding, is done with the numbers and returns a plain tensor.
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
        """The boolean mask as a tensor, True where query i may see key j."""
        if self.allowed is not None:
            return self.allowed
        allowed = torch.ones(self.shape[-2:], dtype=torch.bool, device=self.device)
        return allowed.tril() if self.shape[-2] > 1 else allowed

    def numbers(self) -> Tensor:
        """The mask as a plain tensor, which is stored, since a model that reads it does so in every layer."""
        if self._numbers is None:
            zero = torch.zeros((), dtype=self.dtype, device=self.device)
            self._numbers = torch.where(self.boolean(), zero, torch.finfo(self.dtype).min).expand(self.shape)
        return self._numbers

    def __tensor_flatten__(self) -> tuple[list[str], torch.dtype]:
        """The plain tensors that stand for the mask in a compiled graph."""
        self.allowed = self.boolean()
        return ["allowed"], self.dtype

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], dtype: torch.dtype, size: Any, stride: Any) -> AdditiveMask:
        return AdditiveMask(tuple(size), inner["allowed"], dtype, inner["allowed"].device)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        if func is torch.ops.aten.logical_not.default:  # `not` is True where a key may be seen
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
    """Eager's mask as an `AdditiveMask`, or None where every key may be seen.

    sdpa leaves out a causal mask only if queries and keys both start at position 0, or there is a single query.
    """
    causal = given.get("allow_is_causal_skip", True)
    if torch.compiler.is_compiling():  # so that one compiled graph serves all masks
        given["allow_is_causal_skip"] = False
    allowed = sdpa_mask(batch_size=batch_size, kv_length=kv_length, **given)
    if allowed is None and not causal:
        return None
    places = given.get("cache_position")  # transformers 5.0 gives the queries' positions, later versions their number
    queries, device = (given["q_length"], given["device"]) if places is None else (len(places), places.device)
    return AdditiveMask((batch_size, 1, queries, kv_length), allowed, given.get("dtype", torch.float32), device)
