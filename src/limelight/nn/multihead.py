"""torch's multi-head attention layer with any similarity and normalization."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limelight import check
from limelight.errors import DeviceError, DtypeError, InputError
from limelight.heads import require_count
from limelight.heads_operator import heads_operator
from limelight.mask import Boolean, Mask, causal, padding
from limelight.nonfinite import apply_to_weighted
from limelight.normalization import Normalization, Softmax
from limelight.similarity import Dot, Similarity, is_finite
from limelight.tracing import holds, is_readable


class MultiheadAttention(nn.MultiheadAttention):
    """concat_h(P_h V_h) W_oᵀ + b_o with P_h = Attention(Q_h, K_h, …), in place of `torch.nn.MultiheadAttention`.

    Q_h are the embed_dim/num_heads columns of query W_qᵀ + b_q that belong to head h, and K_h and V_h
    likewise. The arguments, the names of the parameters and their initial values are those of torch's
    layer, so that its `state_dict` can be loaded. With `Dot()` and `Softmax()` the output is the same too,
    with one difference: a query whose keys are all blocked has weights of zero and the output b_o, where
    torch has NaN. `similarity` and `normalization` get tensors (batch, num_heads, length, head_dim). They
    are submodules, and are trained with the layer; `device` and `dtype` apply to the layer's own parameters.

    A normalization that mixes queries (`Softmax(alpha=1)`, `Sinkhorn`, …) must know which queries are padding. Set
    `self_attention=True` if query and key are the same tokens, as in an encoder layer: then key_padding_mask applies to
    the queries too. Otherwise pass `query_padding_mask` to each call.

    Raises `InputError` for sizes below 1, an embed_dim that num_heads does not divide, and a dropout
    outside [0, 1).

    Source: Vaswani et al. 2017 (1706.03762).

    >>> import torch
    >>> from limelight import Euclidean
    >>> from limelight.nn import MultiheadAttention
    >>> layer = MultiheadAttention(64, 4, batch_first=True, similarity=Euclidean(4.0))
    >>> x = torch.randn(2, 10, 64)
    >>> out, weights = layer(x, x, x)
    >>> out.shape, weights.shape
    (torch.Size([2, 10, 64]), torch.Size([2, 10, 10]))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        similarity: Similarity = Dot(),
        normalization: Normalization = Softmax(),
        self_attention: bool = False,
    ) -> None:
        check.instance("similarity", similarity, Similarity)
        check.instance("normalization", normalization, Normalization)
        for name, size in (("embed_dim", embed_dim), ("num_heads", num_heads), ("kdim", kdim), ("vdim", vdim)):
            if not (name in ("kdim", "vdim") and size is None):
                require_count(name, size)
        if embed_dim % num_heads:
            raise InputError(f"embed_dim expects a multiple of num_heads={num_heads}, got {embed_dim}")
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
            raise InputError(f"dropout expects a probability in [0, 1), got {dropout!r}")
        super().__init__(
            embed_dim, num_heads, dropout, bias, add_bias_kv, add_zero_attn, kdim, vdim, batch_first, device, dtype
        )
        self.similarity, self.normalization, self.self_attention = similarity, normalization, self_attention

    def _reset_parameters(self) -> None:
        self._qkv_same_embed_dim = self.in_proj_weight is not None
        super()._reset_parameters()
        # If this were True, torch's encoder layer in eval mode would compute a dot-product softmax without calling this
        # layer.
        self._qkv_same_embed_dim = False

    def forward(
        self,
        query: Float[Tensor, "*n embed_dim"],
        key: Float[Tensor, "*m kdim"],
        value: Float[Tensor, "*m vdim"],
        key_padding_mask: Bool[Tensor, "*batch m"] | Float[Tensor, "*batch m"] | None = None,
        need_weights: bool = True,
        attn_mask: Mask | Bool[Tensor, "*heads n m"] | Float[Tensor, "*heads n m"] | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        *,
        query_padding_mask: Bool[Tensor, "*batch n"] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """(output, weights): the weights are P after dropout, or None if they are not needed.

        query has the shape (n, batch, embed_dim), with `batch_first` (batch, n, embed_dim), or (n, embed_dim)
        for one sequence; key and value have the same form with length m; output has query's shape. The weights
        are (batch, n, m), or (batch, num_heads, n, m) if not averaged, where m includes the keys that the layer
        appends. With `need_weights=False`, no n×m array is stored.

        key_padding_mask (batch, m) and attn_mask (n, m) or (batch·num_heads, n, m) are boolean with
        True = **blocked**, as in torch, or floating and added to the scores. attn_mask may also be a
        Limelight `Mask`, which is not stored, and in which True means, as everywhere in Limelight, that a key may
        be seen. `is_causal` states that attn_mask is the causal mask, which is checked (but not in a compiled graph,
        as in torch). query_padding_mask (batch, n) is boolean, True = a padded query: it gets weights of zero, and is
        left out of sums over queries in a normalization.

        Raises `InputError` (wrong shapes; an `is_causal` with another mask; NaN or +∞ in a mask; a `Mask`
        if the layer appends keys; padded keys if the normalization mixes queries and nothing says which
        queries are padded), `DtypeError`, `DeviceError`, and what `Attention` raises.
        """
        self._require_tokens(query, key, value)
        q, k, v = self._heads(query, key, value)
        real, key_bias = self._real_keys(key_padding_mask, query, k)
        real_queries = self._real_queries(query_padding_mask, key_padding_mask, query, q)
        allowed, bias = self._masks_of(attn_mask, is_causal, q, k)
        if real is not None or real_queries is not None:
            present = padding(keys=real, queries=real_queries)
            allowed = present if allowed is None else allowed & present
        P = heads_operator(q, k, self.similarity, self.normalization, allowed, biases=(bias, key_bias))

        p, weights = self.dropout if self.training else 0.0, None
        if need_weights:
            weights = P.dense()
            weights = nn.functional.dropout(weights, p)
            mixed = apply_to_weighted(weights.matmul, v, allowed)
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            mixed = P.apply(v, p)
        output = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if query.ndim == 2:
            return output[0], None if weights is None else weights[0]
        return output if self.batch_first else output.transpose(0, 1), weights

    def _heads(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Q, K and V, (batch, num_heads, length, head_dim), with the keys and values that the layer appends."""
        given, packed = [self._batch_first(x) for x in (query, key, value)], self.in_proj_weight
        if packed is not None and query is key is value:  # one product instead of three
            projected = nn.functional.linear(given[0], packed, self.in_proj_bias).chunk(3, -1)
        else:
            apart = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight) if packed is None else packed.chunk(3)
            biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
            projected = tuple(map(nn.functional.linear, given, apart, biases))
        q, k, v = map(self._split, projected)
        return q, self._append(k, self.bias_k), self._append(v, self.bias_v)

    def _batch_first(self, x: Tensor) -> Tensor:
        if x.ndim == 2:
            return x[None]
        return x if self.batch_first else x.transpose(0, 1)

    def _split(self, x: Tensor) -> Tensor:
        """(batch, length, embed_dim) → (batch, num_heads, length, head_dim)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _append(self, x: Tensor, learned: Tensor | None) -> Tensor:
        parts = [x]
        if learned is not None:
            parts.append(self._split(learned).to(x.dtype).expand(x.shape[0], -1, -1, -1))
        if self.add_zero_attn:
            parts.append(torch.zeros_like(x[..., :1, :]))
        return torch.cat(parts, -2) if len(parts) > 1 else x

    @property
    def _appended(self) -> int:
        return (self.bias_k is not None) + self.add_zero_attn

    def _masks_of(
        self, attn_mask: Mask | Tensor | None, is_causal: bool, q: Tensor, k: Tensor
    ) -> tuple[Mask | None, Tensor | None]:
        """attn_mask as a mask and a bias on the scores of all heads, both with the keys that the layer appends."""
        n, m, more = q.shape[-2], k.shape[-2] - self._appended, self._appended
        if isinstance(attn_mask, Tensor):
            _require_mask("attn_mask", attn_mask, ((n, m), (q.shape[0] * q.shape[1], n, m)), q.device)
        elif attn_mask is not None and not isinstance(attn_mask, Mask):
            raise DtypeError(f"attn_mask expects a tensor or a Mask, got {type(attn_mask).__name__}")
        if is_causal:
            _require_causal(attn_mask, n, m, q.device)
            if not more and not (isinstance(attn_mask, Tensor) and attn_mask.requires_grad):
                attn_mask = causal  # the same mask, which is not stored
        if isinstance(attn_mask, Mask) and more:
            raise InputError(
                "a Mask does not cover the keys that the layer appends (add_bias_kv, add_zero_attn): "
                "give attn_mask as a boolean tensor"
            )
        if not isinstance(attn_mask, Tensor):
            return attn_mask, None
        heads = attn_mask if attn_mask.ndim == 2 else attn_mask.unflatten(0, q.shape[:2])
        allowed, bias = _mask_and_bias("attn_mask", heads, more)
        return None if allowed is None else Boolean(allowed), bias

    def _real_keys(
        self, key_padding_mask: Tensor | None, query: Tensor, k: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """key_padding_mask as a boolean (batch, 1, m), True for keys without padding, and a bias (batch, 1, 1, m)."""
        if key_padding_mask is None:
            return None, None
        batch, m = k.shape[0], k.shape[-2] - self._appended
        _require_mask("key_padding_mask", key_padding_mask, ((m,) if query.ndim == 2 else (batch, m),), k.device)
        real, bias = _mask_and_bias("key_padding_mask", key_padding_mask.reshape(batch, 1, m), self._appended)
        return real, None if bias is None else bias[..., None, :]

    def _real_queries(
        self, query_padding_mask: Tensor | None, key_padding_mask: Tensor | None, query: Tensor, q: Tensor
    ) -> Tensor | None:
        """A boolean (batch, 1, n), True for queries that are not padding, or None if no query is taken for padding."""
        batch, n = q.shape[0], q.shape[2]
        shapes = ((n,) if query.ndim == 2 else (batch, n),)
        if query_padding_mask is not None:
            _require_mask("query_padding_mask", query_padding_mask, shapes, q.device)
            if query_padding_mask.dtype != torch.bool:
                raise DtypeError(f"query_padding_mask expects bool (True = padded), got {query_padding_mask.dtype}")
            return ~query_padding_mask.reshape(batch, 1, n)
        if key_padding_mask is None or not self.normalization.uses_column_sums:
            return None
        if not self.self_attention:
            raise InputError(
                f"{self.normalization} sums over queries, and key_padding_mask does not say which of them are padding: "
                "build the layer with self_attention=True if query and key are the same tokens, or give "
                "query_padding_mask (all False if none is padding)"
            )
        if key_padding_mask.shape not in shapes:
            raise InputError(
                f"self_attention=True says that query and key are the same tokens, but there are {n} queries and "
                f"{key_padding_mask.shape[-1]} keys"
            )
        real, _ = _mask_and_bias("key_padding_mask", key_padding_mask.reshape(batch, 1, n), 0)
        return real

    def _require_tokens(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        weight = self.q_proj_weight if self.in_proj_weight is None else self.in_proj_weight
        widths = {"query": (query, self.embed_dim), "key": (key, self.kdim), "value": (value, self.vdim)}
        for name, (x, width) in widths.items():
            if not isinstance(x, Tensor):
                raise DtypeError(f"{name} expects a torch tensor, got {type(x).__name__}")
            if x.is_nested:
                raise InputError(f"{name} is nested: pad it; in a TransformerEncoder say enable_nested_tensor=False")
            if x.ndim not in (2, 3) or x.ndim != query.ndim or x.shape[-1] != width:
                axes = "batch, length" if self.batch_first else "length, batch"
                raise InputError(
                    f"{name} expects ({axes}, {width}), or (length, {width}) where all three are one sequence; "
                    f"got {tuple(x.shape)} with a query of {tuple(query.shape)}"
                )
            if x.device != weight.device:
                raise DeviceError(f"{name} is on {x.device}, the layer on {weight.device}; move one of them with .to()")
            if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
                raise DtypeError(f"{name} expects the layer's dtype, {weight.dtype}, got {x.dtype}; convert with .to()")
        if key.shape[:-1] != value.shape[:-1]:
            raise InputError(
                f"key and value must have the same shape except for the width, got {tuple(key.shape)} and "
                f"{tuple(value.shape)}"
            )
        n, m = (self._batch_first(x).shape[0] for x in (query, key))
        if n != m:
            raise InputError(
                f"query and key must have the same batch size, got {n} and {m} with batch_first={self.batch_first}"
            )


def _require_mask(name: str, mask: Tensor, shapes: tuple[tuple[int, ...], ...], device: torch.device) -> None:
    if not isinstance(mask, Tensor):
        raise DtypeError(f"{name} expects a tensor, got {type(mask).__name__}")
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise DtypeError(f"{name} expects bool (True = blocked) or floating (added), got {mask.dtype}; try .bool()")
    if mask.shape not in shapes:
        raise InputError(f"{name} expects shape {' or '.join(map(str, shapes))}, got {tuple(mask.shape)}")
    if mask.device != device:
        raise DeviceError(f"{name} is on {mask.device}, the queries are on {device}; move one of them with .to()")


_ROWS = 64  # the number of a mask's rows that are compared at a time


def _require_causal(attn_mask: Mask | Tensor | None, n: int, m: int, device: torch.device) -> None:
    """Raise `InputError` unless the mask is the causal one. Some rows are compared at a time, to save memory."""
    if attn_mask is None:
        raise InputError("is_causal=True describes attn_mask, as in torch, but attn_mask is None; try attn_mask=causal")
    if isinstance(attn_mask, Mask):
        attn_mask.check(n, m, device)
    if not is_readable(torch.empty(0, device=device) if isinstance(attn_mask, Mask) else attn_mask):
        return
    some = (slice(start, min(start + _ROWS, n)) for start in range(0, n, _ROWS))
    if not all(_is_causal(attn_mask, rows, m, device) for rows in some):
        raise InputError("is_causal=True, but attn_mask is not the causal mask: leave is_causal out, or correct it")


def _is_causal(attn_mask: Mask | Tensor, rows: slice, m: int, device: torch.device) -> bool:
    """True if these rows block the keys after their own position, and change nothing else."""
    if isinstance(attn_mask, Mask):
        blocked = ~attn_mask.block(rows, slice(0, m), device)
    elif attn_mask.dtype == torch.bool:
        blocked = attn_mask[..., rows, :]
    else:
        added = attn_mask[..., rows, :]
        blocked = added == float("-inf")
        if not torch.equal(blocked, added != 0):
            return False
    start, stop = min(rows.start, m), min(rows.stop, m)
    past, beside, future = blocked.split([start, stop - start, m - stop], -1)
    return not past.any() and torch.equal(beside, torch.ones_like(beside).triu(1)) and bool(future.all())


def _mask_and_bias(name: str, mask: Tensor, appended: int) -> tuple[Tensor | None, Tensor | None]:
    """(which keys torch's mask allows, what it adds to their scores); None for each that has no effect."""
    if mask.dtype == torch.bool:
        return nn.functional.pad(~mask, (0, appended), value=True), None
    blocked = mask == float("-inf")
    bias = nn.functional.pad(mask.masked_fill(blocked, 0), (0, appended))
    if not is_finite(bias):
        raise InputError(f"{name} expects finite numbers or −∞, got NaN or +∞")
    allowed = nn.functional.pad(~blocked, (0, appended), value=True) if holds(blocked.any()) else None
    return allowed, bias if mask.requires_grad or holds(bias.any()) else None
