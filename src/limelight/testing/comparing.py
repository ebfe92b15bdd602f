"""The comparison of two computations of the same quantity: their values and their gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn

from limelight.attention import Attention
from limelight.errors import ContractError, KernelError
from limelight.kernels import online_softmax, rows
from limelight.mask import Mask
from limelight.normalization import Normalization
from limelight.similarity import Similarity

_EXACT = 1e-8  # relative to the largest entry, in float64
ENTRIES = 60  # entries of a rectangle, so that even few tokens need many rectangles


def require_equal(what: str, mine: Tensor, right: Tensor, tolerance: float = _EXACT) -> None:
    """Raise `ContractError` unless `mine` equals `right`, up to `tolerance` times the largest entry of `right`."""
    if mine.shape != right.shape:
        raise ContractError(f"{what}: expected the shape {tuple(right.shape)}, got {tuple(mine.shape)}")
    infinite = right.isinf()
    if not torch.equal(mine[infinite], right[infinite]) or mine.isnan().any():
        raise ContractError(f"{what}: infinite entries differ, or some are NaN")
    if not right.numel():
        return
    gap = (mine - right).masked_fill(infinite, 0).abs()
    size = right.masked_fill(infinite, 0).abs().max().clamp(min=1e-3)
    if not bool((gap <= tolerance * size).all()):
        at = tuple(int(i) for i in torch.unravel_index(gap.argmax(), gap.shape))
        raise ContractError(
            f"{what}: entry {at} is {mine[at].item():.6g}, expected {right[at].item():.6g} "
            f"(to {tolerance:.0e} of the largest entry)"
        )


def tokens(n: int, d: int, batch: tuple[int, ...], seed: int) -> Tensor:
    """Normal tokens (*batch, n, d) in float64, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, n, d, generator=generator, dtype=torch.float64)


@contextmanager
def small_rectangles() -> Iterator[None]:
    """Within the block, kernels use rectangles of some 60 entries, so that few tokens need several."""
    before = online_softmax.ENTRIES, rows.ENTRIES
    online_softmax.ENTRIES = rows.ENTRIES = ENTRIES
    try:
        yield
    finally:
        online_softmax.ENTRIES, rows.ENTRIES = before


def kernels_of(make: Callable[[str], Attention]) -> list[str]:
    """The kernels other than the reference that can serve this attention."""
    names = []
    for kernel in ("fused", "chunked"):
        with suppress(KernelError):
            make(kernel)
            names.append(kernel)
    return names


def require_kernels_agree(
    what: str,
    q: Tensor,
    k: Tensor,
    similarity: Similarity,
    normalization: Normalization,
    mask: Mask | None = None,
) -> None:
    """Raise `ContractError` unless outputs, transposes, measures and gradients equal the reference's."""
    v, w = tokens(k.shape[-2], 3, (), 3), tokens(q.shape[-2], 2, (), 4)

    def results(kernel: str) -> tuple[list[Tensor], list[Tensor]]:
        own_q, own_k, own_v = (x.clone().requires_grad_() for x in (q, k, v))
        A = Attention(own_q, own_k, similarity, normalization, mask, kernel=kernel)  # type: ignore[arg-type]
        found = [A @ own_v, A.T @ w, A.entropy(), A.column_mass()]
        learned = [p for module in (similarity, normalization) for p in module.parameters() if p.requires_grad]
        return found, _gradients(found, [own_q, own_k, own_v, *learned])

    right, right_gradients = results("reference")
    names = ("A @ v", "A.T @ w", "A.entropy()", "A.column_mass()")
    with small_rectangles():
        for kernel in kernels_of(lambda name: Attention(q, k, similarity, normalization, mask, kernel=name)):  # type: ignore[arg-type]
            mine, gradients = results(kernel)
            for name, one, other in zip(names, mine, right, strict=True):
                require_equal(f"{what}: {name} on the {kernel} kernel", one, other)
            for i, (one, other) in enumerate(zip(gradients, right_gradients, strict=True)):
                source = ("q", "k", "v")[i] if i < 3 else f"parameter {i - 3}"
                require_equal(f"{what}: the gradient of {source} on the {kernel} kernel", one, other)


def _gradients(found: Sequence[Tensor], sources: Sequence[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    weights = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in found]
    total = torch.stack([(x * weight).sum() for x, weight in zip(found, weights, strict=True)]).sum()
    gradients = torch.autograd.grad(total, sources, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(sources, gradients, strict=True)]


def in_float64(module: nn.Module) -> nn.Module:
    """A copy of the module in float64 and in evaluation mode; the caller's module is not changed."""
    return copy.deepcopy(module).double().eval()
