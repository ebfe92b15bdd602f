"""torch's private operations for fused attention, which are looked up and checked when they are first needed.

They may change with any release of torch. If one is missing or takes other arguments, its device has no fused kernel,
`reason_missing` says why, and attention runs on the chunked kernel instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class _Expected:
    """The name of an operation, the arguments that are passed to it by position and by keyword, and its results."""

    name: str
    positional: tuple[str, ...]
    keywords: tuple[str, ...]
    results: int


_CPU = _Expected(
    "_scaled_dot_product_flash_attention_for_cpu",
    ("query", "key", "value", "dropout_p", "is_causal"),
    ("attn_mask", "scale"),
    results=2,
)
_CPU_BACKWARD = _Expected(
    "_scaled_dot_product_flash_attention_for_cpu_backward",
    ("grad_out", "query", "key", "value", "out", "logsumexp", "dropout_p", "is_causal"),
    ("attn_mask", "scale"),
    results=3,
)
_CUDA = _Expected(
    "_scaled_dot_product_efficient_attention",
    ("query", "key", "value", "attn_bias", "compute_log_sumexp", "dropout_p", "is_causal"),
    ("scale",),
    results=4,
)
_CUDA_BACKWARD = _Expected(
    "_scaled_dot_product_efficient_attention_backward",
    (
        "grad_out_", "query", "key", "value", "attn_bias", "out", "logsumexp", "philox_seed", "philox_offset",
        "dropout_p", "grad_input_mask", "is_causal",
    ),
    ("scale",),
    results=4,
)  # fmt: skip
_CUDNN = _Expected(
    "_scaled_dot_product_cudnn_attention",
    (
        "query", "key", "value", "attn_bias", "compute_log_sumexp", "dropout_p", "is_causal", "return_debug_mask",
    ),
    ("scale",),
    results=9,
)  # fmt: skip
_CUDNN_BACKWARD = _Expected(
    "_scaled_dot_product_cudnn_attention_backward",
    (
        "grad_out", "query", "key", "value", "out", "logsumexp", "philox_seed", "philox_offset", "attn_bias",
        "cum_seq_q", "cum_seq_k", "max_q", "max_k", "dropout_p", "is_causal",
    ),
    ("scale",),
    results=3,
)  # fmt: skip
_FLASH = _Expected(
    "_scaled_dot_product_flash_attention",
    ("query", "key", "value", "dropout_p", "is_causal", "return_debug_mask"),
    ("scale",),
    results=9,
)
_FLASH_BACKWARD = _Expected(
    "_scaled_dot_product_flash_attention_backward",
    (
        "grad_out", "query", "key", "value", "out", "logsumexp", "cum_seq_q", "cum_seq_k", "max_q", "max_k",
        "dropout_p", "is_causal", "philox_seed", "philox_offset",
    ),
    ("scale",),
    results=3,
)  # fmt: skip
EXPECTED = {
    "cpu": (_CPU, _CPU_BACKWARD),
    "cuda": (_CUDA, _CUDA_BACKWARD),
    "cudnn": (_CUDNN, _CUDNN_BACKWARD),
    "flash": (_FLASH, _FLASH_BACKWARD),
}

_reasons: dict[str, str | None] = {}  # by device or name: why its operations cannot be used, or None


def operations(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The forward and the backward operation named "cpu", "cuda" (the efficient one), "cudnn" or "flash"."""
    forward, backward = EXPECTED[name]
    return getattr(torch.ops.aten, forward.name), getattr(torch.ops.aten, backward.name)


def reason_missing(device: str) -> str | None:
    """Why torch's operations for this device ("cpu" or "cuda") cannot be used, or None if they can; it warns once."""
    if device in _reasons:
        return _reasons[device]
    if torch.compiler.is_compiling():
        return None  # the compiler cannot trace this check
    reason = _reason(device)
    if reason is not None:
        warnings.warn(f"{reason}: on {device} attention runs on the slower chunked kernel", stacklevel=2)
    return reason


def is_available(name: str) -> bool:
    """True if torch has both operations of this name as they are called here."""
    return _reason(name) is None


def _reason(name: str) -> str | None:
    """Why the operations of this name cannot be used, or None if they can; it is found once."""
    if name not in _reasons:
        _reasons[name] = next(filter(None, map(_missing, EXPECTED[name])), None)
    return _reasons[name]


def _missing(expected: _Expected) -> str | None:
    operation = getattr(torch.ops.aten, expected.name, None)
    if operation is None:
        return f"torch {torch.__version__} has no operation {expected.name}"
    if not _serves(operation.default._schema, expected):
        return f"torch {torch.__version__} has changed the operation {expected.name}: {operation.default._schema}"
    return None


def _serves(schema: torch.FunctionSchema, expected: _Expected) -> bool:
    """True if the operation takes the arguments that are passed, needs no others, and has the expected results."""
    # The names of the first arguments must be those that are passed by position, in this order: a new argument between
    # them would shift the others, and tensors would silently change their roles. A new argument elsewhere does no harm
    # if it has a default.
    names = tuple(argument.name for argument in schema.arguments)
    passed = {*expected.positional, *expected.keywords}
    others = (argument for argument in schema.arguments if argument.name not in passed)
    return (
        names[: len(expected.positional)] == expected.positional
        and passed <= set(names)
        and all(argument.has_default_value() for argument in others)
        and len(schema.returns) == expected.results
    )
