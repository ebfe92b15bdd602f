"""A tensor to which rows are appended, in memory that is doubled when it is full."""

from __future__ import annotations

import torch
from torch import Tensor

from limelight.errors import InputError

_FIRST = 64  # rows for which memory is allocated at first
_CHANGED = -1  # no version of a tensor


class Growing:
    """A tensor (*batch, length, width) to which rows are appended. It is a part of a larger buffer."""

    # Each `torch.cat` copies all rows so far, so that m rows which come one by one are copied m²/2 times in all. If the
    # memory is doubled instead when it is full, each row is copied once on average: m/2 + m/4 + … < m.

    def __init__(self, name: str) -> None:
        self.name, self.length = name, 0
        self._buffer: Tensor | None = None
        self._written: int | None = None  # the buffer's version after the last write of this object

    def all(self) -> Tensor:
        """The rows so far: a view, which later rows do not change."""
        if self._buffer is None:
            raise InputError("the cache holds no keys yet; append some first")
        return self._buffer.narrow(-2, 0, self.length)

    def require_fits(self, rows: Tensor) -> None:
        """Raise `InputError` unless the rows have the shape, dtype and device of the earlier rows."""
        buffer = self._buffer
        if buffer is None:
            return
        mine, theirs = ((*x.shape[:-2], x.shape[-1], x.dtype, x.device) for x in (buffer, rows))
        if mine != theirs:
            expected = (*buffer.shape[:-2], "t", buffer.shape[-1])
            raise InputError(
                f"{self.name} expects {expected} in {buffer.dtype} on {buffer.device}, as the cache has it; got "
                f"{tuple(rows.shape)} in {rows.dtype} on {rows.device}"
            )

    def append(self, rows: Tensor) -> None:
        """Append rows. Their gradient is lost: use `concatenate` where there is one."""
        length, buffer, changed = self.length + rows.shape[-2], self._buffer, self.was_changed()
        if buffer is None or length > buffer.shape[-2] or _is_read_only(buffer):
            buffer = rows.new_empty(*rows.shape[:-2], max(2 * self.length, length, _FIRST), rows.shape[-1])
            if self.length:
                buffer[..., : self.length, :] = self.all()
        buffer[..., self.length : length, :] = rows
        self._hold(buffer, length, changed)

    def concatenate(self, rows: Tensor) -> None:
        """Append rows in new memory, so that gradients flow to them and to the earlier rows."""
        rows = torch.cat([self.all(), rows], -2) if self.length else rows
        self._hold(rows, rows.shape[-2], self.was_changed())

    def replace(self, rows: Tensor | None) -> None:
        """Hold these rows instead. If they are a view of the first ones, the others are forgotten."""
        if rows is None or rows.ndim < 2:
            self._buffer, self.length = None, 0
        elif self.begins_with(rows):
            self.length = rows.shape[-2]
        else:
            self._hold(rows, rows.shape[-2], True)

    def begins_with(self, rows: Tensor) -> bool:
        """True if the tensor is a view of the first rows: then it has the same memory, and not only equal numbers."""
        if self._buffer is None or rows.ndim != self._buffer.ndim or rows.shape[-2] > self.length:
            return False
        own = self._buffer[..., : rows.shape[-2], :]
        return (
            rows.dtype == own.dtype
            and (rows.shape, rows.stride(), rows.storage_offset()) == (own.shape, own.stride(), own.storage_offset())
            and rows.untyped_storage().data_ptr() == own.untyped_storage().data_ptr()
        )

    def select(self, index: Tensor) -> None:
        """Keep these entries of the first batch dimension, in this order; an entry may be kept several times."""
        if self._buffer is None:
            return
        rows, index, changed = self.all(), index.to(self._buffer.device), self.was_changed()
        if torch.is_grad_enabled():
            self._hold(rows.index_select(0, index), self.length, changed)
            return
        buffer = rows.new_empty(len(index), *self._buffer.shape[1:])
        torch.index_select(rows, 0, index, out=buffer[..., : self.length, :])
        self._hold(buffer, self.length, changed)

    def was_changed(self) -> bool:
        """True if other code has written into the rows or replaced them since `accept_changes`.

        Tensors of torch's inference mode do not tell whether they were written to.
        """
        return self._buffer is not None and version_of(self._buffer) != self._written

    def accept_changes(self) -> None:
        self._written = None if self._buffer is None else version_of(self._buffer)

    def _hold(self, buffer: Tensor, length: int, changed: bool) -> None:
        self._buffer, self.length, self._written = buffer, length, _CHANGED if changed else version_of(buffer)


def version_of(x: Tensor) -> int | None:
    """The number of writes to the tensor and its views."""
    return None if x.is_inference() else x._version


def _is_read_only(x: Tensor) -> bool:
    """True for a tensor of torch's inference mode outside it, and for one with a gradient."""
    return x.requires_grad or (x.is_inference() and not torch.is_inference_mode_enabled())
