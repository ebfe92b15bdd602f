"""Ordinary uses, each as a job of Limelight and one of torch or transformers that computes the same."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import Job
from limelight import (
    GAT,
    ALiBi,
    Attention,
    Dot,
    Entmax,
    Euclidean,
    Graph,
    KeyCache,
    Metric,
    Normalization,
    Sigmoid,
    Similarity,
    Sparsemax,
    StudentT,
    TopK,
    attend,
    causal,
)
from limelight.nn import MultiheadAttention


@dataclass(frozen=True)
class Case:
    """One use: `make` builds (Limelight's job, the other's); `target` limits the ratio of their times."""

    group: str
    name: str
    make: Callable[[], tuple[Job, Job]]
    target: float | None = None
    beside: str = "SDPA"
    slow: bool = False  # True if the quick run leaves it out
    memory: bool = False  # True if peak memory is compared too


def cases() -> list[Case]:
    """All cases, in the order of the table."""
    return [*_masks(), *_decoding(), *_dropout(), *_measures(), *_normalizations(), *_distances(), *_layers()]


_GENERATOR = torch.Generator().manual_seed(0)


def _of(*shape: int) -> Tensor:
    return torch.randn(shape, generator=_GENERATOR)


def _forward(mine: Job, other: Job) -> tuple[Job, Job]:
    return torch.no_grad()(mine), torch.no_grad()(other)


def _training(run: Callable[..., Tensor], *inputs: Tensor) -> Job:
    """The forward and backward pass, with gradients of the inputs that require them."""

    def job() -> None:
        out = run(*(x.detach().requires_grad_() for x in inputs))
        out.backward(torch.ones_like(out))

    return job


def _masks() -> Iterator[Case]:
    group, (B, H, n, d) = "masks", (4, 8, 512, 64)

    def masked(mask: Tensor, *sizes: int) -> tuple[Job, Job]:
        q, k, v = (_of(*sizes) for _ in range(3))
        return _forward(
            lambda: attend(q, k, v, attn_mask=mask), lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        )

    def pairs() -> Tensor:
        keep = _of(B, 1, n, n) > -0.5
        keep[..., 0] = True
        return keep

    def keys(batch: int, m: int) -> Tensor:
        return (torch.arange(m) < torch.linspace(0.6, 1, batch)[:, None] * m)[:, None, None]

    def added() -> Tensor:
        return torch.zeros(B, 1, n, n).masked_fill(~keys(B, n), torch.finfo(torch.float32).min)

    yield Case(group, "boolean (B, 1, n, m), n = 512", lambda: masked(pairs(), B, H, n, d), 1.15)
    yield Case(group, "float padding (B, 1, n, m), n = 512", lambda: masked(added(), B, H, n, d), 1.15)
    yield Case(group, "boolean (B, 1, 1, m), n = 512", lambda: masked(keys(B, n), B, H, n, d), 1.15)
    yield Case(
        group, "boolean (1, 1, 1, m), n = 16,384", lambda: masked(keys(1, 16384), 1, 1, 16384, d), 1.15, slow=True
    )
    yield Case(group, "T5: bias (1, H, n, m), n = 512", lambda: masked(_of(1, H, n, n), B, H, n, d), 1.2)
    yield Case(group, "T5: learned bias, forward + backward", partial(_learned_bias, B, H, n, d), 1.2)
    yield Case(
        group, "Swin: bias, 256 windows × 4 heads × 49 × 32", lambda: masked(_of(1, 4, 49, 49), 256, 4, 49, 32), 1.3
    )


def _learned_bias(B: int, H: int, n: int, d: int) -> tuple[Job, Job]:
    inputs = [_of(B, H, n, d) for _ in range(3)] + [_of(1, H, n, n)]
    return (
        _training(lambda q, k, v, bias: attend(q, k, v, attn_mask=bias), *inputs),
        _training(lambda q, k, v, bias: F.scaled_dot_product_attention(q, k, v, attn_mask=bias), *inputs),
    )


def _decoding() -> Iterator[Case]:
    rows: list[tuple[str, Callable[[int], Similarity], tuple[float, float, float]]] = [
        ("Dot", lambda m: Dot(), (1.5, 1.1, 1.1)),
        ("Euclidean", lambda m: Euclidean(8.0), (2.0, 1.3, 1.3)),
        ("Dot + ALiBi", lambda m: Dot() + ALiBi(8, offset=m), (2.0, 2.0, 2.0)),
        ("StudentT", lambda m: StudentT(), (3.0, 3.0, 3.0)),
    ]
    for name, similarity, targets in rows:
        for (batch, m), target in zip(((1, 1024), (1, 8192), (8, 4096)), targets, strict=True):
            size = f"m = {m:,}" if batch == 1 else f"{batch} × {m:,}"
            for way, make in (("attend", _one_query), ("KeyCache", _one_query_of_a_cache)):
                yield Case(
                    "decoding", f"{name}, {size}, {way}", partial(make, similarity, batch, m), target,
                    slow=name in ("Dot + ALiBi", "StudentT") and m != 1024,
                )  # fmt: skip


def _one_query(similarity: Callable[[int], Similarity], batch: int, m: int) -> tuple[Job, Job]:
    q, k, v, own = _of(batch, 8, 1, 64), _of(batch, 8, m, 64), _of(batch, 8, m, 64), similarity(m - 1)
    return _forward(lambda: attend(q, k, v, similarity=own), lambda: F.scaled_dot_product_attention(q, k, v))


def _one_query_of_a_cache(similarity: Callable[[int], Similarity], batch: int, m: int) -> tuple[Job, Job]:
    q, k, v, cache = _of(batch, 8, 1, 64), _of(batch, 8, m, 64), _of(batch, 8, m, 64), KeyCache(similarity(0))
    cache.append(k, v)
    return _forward(lambda: cache.attend(q), lambda: F.scaled_dot_product_attention(q, k, v))


def _dropout() -> Iterator[Case]:
    def dense() -> tuple[Job, Job]:
        inputs = [_of(4, 8, 512, 64) for _ in range(3)]
        return (
            _training(lambda q, k, v: attend(q, k, v, dropout_p=0.1), *inputs),
            _training(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=0.1), *inputs),
        )

    def graph() -> tuple[Job, Job]:
        nodes, edges = 2708, 13264
        pairs = torch.randint(nodes, (2, edges), generator=torch.Generator().manual_seed(0))
        x, mask, similarity = _of(8, nodes, 8), Graph(pairs, nodes), GAT(8)

        def step(dropout: float) -> Job:
            return _training(lambda x: attend(x, x, x, mask=mask, similarity=similarity, dropout_p=dropout), x)

        return step(0.6), step(0.0)

    yield Case("dropout", "dropout 0.1, n = 512, forward + backward", dense, 1.2)
    yield Case("dropout", "dropout in GAT, 2,708 nodes, 13,264 edges, a step", graph, 1.3, beside="without dropout")


def _measures() -> Iterator[Case]:
    def strongest() -> tuple[Job, Job]:
        q, k, v = (_of(1, 8, 4096, 64) for _ in range(3))
        return _forward(lambda: Attention(q, k).topk(8), lambda: F.scaled_dot_product_attention(q, k, v))

    def hinted() -> tuple[Job, Job]:
        layer, x = MultiheadAttention(64, 1, batch_first=True), _of(1, 16384, 64)
        future = torch.ones(16384, 16384, dtype=torch.bool).triu_(1)
        return _forward(
            lambda: layer(x, x, x, attn_mask=future, is_causal=True, need_weights=False),
            lambda: layer(x, x, x, attn_mask=causal, need_weights=False),
        )

    yield Case("measures", "8 strongest keys, n = 4,096", strongest, 4.0)
    yield Case(
        "masks", "MultiheadAttention(is_causal=True), n = 16,384", hinted, beside="attn_mask=causal", slow=True,
        memory=True,
    )  # fmt: skip


def _normalizations() -> Iterator[Case]:
    rows: list[tuple[Normalization, float]] = [(Sparsemax(), 4), (Entmax(1.5), 4), (TopK(32), 4), (Sigmoid(), 2.5)]
    for normalization, target in rows:
        yield Case(
            "normalizations", f"{normalization}, n = 2,048, forward + backward",
            partial(_trained, {"normalization": normalization}, 2048), target,
            slow=not isinstance(normalization, Sparsemax),
        )  # fmt: skip


def _distances() -> Iterator[Case]:
    for name, arguments in (
        ("Euclidean", {"similarity": Euclidean(8.0)}),
        ("Metric, φ = identity", {"similarity": Metric(nn.Identity()), "scale": 1 / 64}),
    ):
        yield Case(
            "similarities", f"{name}, n = 4,096, forward + backward", partial(_trained, arguments, 4096), 1.1, slow=True
        )


def _trained(arguments: dict[str, object], n: int) -> tuple[Job, Job]:
    inputs = [_of(1, 8, n, 64) for _ in range(3)]
    return _training(partial(attend, **arguments), *inputs), _training(F.scaled_dot_product_attention, *inputs)  # type: ignore[arg-type]


def _layers() -> Iterator[Case]:
    yield Case(
        "layers",
        "BERT-base's MultiheadAttention, 8 × 128, forward + backward",
        partial(_multihead, 8, 128),
        beside="torch's layer",
    )
    yield Case(
        "layers",
        "ViT-base's MultiheadAttention, 8 × 197, forward + backward",
        partial(_multihead, 8, 197),
        beside="torch's layer",
    )
    for kind, batch, n in (("BERT", 8, 128), ("ViT", 8, 197), ("Llama", 2, 512), ("T5", 4, 256)):
        yield Case(
            "layers", f"{kind} layer, transformers, {batch} × {n}, forward + backward",
            partial(_transformers_layer, kind, batch, n), beside="eager" if kind == "T5" else "sdpa",
        )  # fmt: skip
    yield Case("layers", "Llama, 64 tokens generated after 256", _generation, beside="sdpa", slow=True)
    yield Case(
        "layers", "Llama, 64 tokens generated after 256, AttentionCache", partial(_generation, cached=True),
        beside="sdpa", slow=True,
    )  # fmt: skip
    for name, make in (("64 tokens generated after 256", _generation_with_a_cache), ("16 steps after 4,096", _steps)):
        for similarity in (Euclidean(8.0), StudentT(64.0)):
            yield Case(
                "layers", f"Llama with {type(similarity).__name__}, {name}, AttentionCache", partial(make, similarity),
                beside="DynamicCache", slow=True,
            )  # fmt: skip


def _multihead(batch: int, n: int) -> tuple[Job, Job]:
    mine, theirs = (kind(768, 12, batch_first=True) for kind in (MultiheadAttention, nn.MultiheadAttention))
    mine.load_state_dict(theirs.state_dict())
    x = _of(batch, n, 768)

    def step(layer: nn.Module) -> Job:
        return _training(lambda x: layer(x, x, x, need_weights=False)[0], x)

    return step(mine), step(theirs)


def _transformers_layer(kind: str, batch: int, n: int) -> tuple[Job, Job]:
    import transformers

    wide = {"hidden_size": 768, "num_hidden_layers": 1, "num_attention_heads": 12, "intermediate_size": 3072}
    ids = torch.randint(3, 100, (batch, n), generator=torch.Generator().manual_seed(0))
    given: dict[str, Tensor] = {
        "input_ids": ids,
        "attention_mask": (torch.arange(n) < n - 20 * torch.arange(batch)[:, None] // batch).long(),
    }
    if kind == "BERT":
        model = transformers.BertModel(transformers.BertConfig(vocab_size=100, **wide))
    elif kind == "ViT":
        model = transformers.ViTModel(transformers.ViTConfig(**wide))
        given = {"pixel_values": _of(batch, 3, 224, 224)}
    elif kind == "Llama":
        model = transformers.LlamaModel(transformers.LlamaConfig(vocab_size=100, num_key_value_heads=4, **wide))
    else:
        config = transformers.T5Config(vocab_size=100, d_model=512, d_kv=64, d_ff=1024, num_layers=1, num_heads=8)
        model = transformers.T5EncoderModel(config)
    mine, theirs = _pair(model, "eager" if kind == "T5" else "sdpa")

    def step(model: nn.Module) -> Job:
        def job() -> None:
            model(**given).last_hidden_state.sum().backward()
            model.zero_grad()

        return job

    return step(mine), step(theirs)


_SETTINGS = {"max_new_tokens": 64, "do_sample": False}


def _generation(cached: bool = False) -> tuple[Job, Job]:
    """Tokens generated by a small Llama."""
    mine, theirs = _pair(_llama(), "sdpa")
    ids = _prompt(256)
    return lambda: mine.generate(ids, **_cache(mine, cached), **_SETTINGS), lambda: theirs.generate(ids, **_SETTINGS)


def _generation_with_a_cache(similarity: Similarity) -> tuple[Job, Job]:
    """The same with a similarity of Limelight's and its cache, and with transformers' cache."""
    model, _ = _pair(_llama(), "sdpa", similarity)
    ids = _prompt(256)
    return (
        lambda: model.generate(ids, **_cache(model, True), **_SETTINGS),
        lambda: model.generate(ids, **_cache(model, False), **_SETTINGS),
    )


def _steps(similarity: Similarity) -> tuple[Job, Job]:
    """Steps of one token, with either cache; it holds 4,096 tokens before, and again afterwards."""
    model, _ = _pair(_llama(), "sdpa", similarity)
    ids = _prompt(4096)

    def steps(cached: bool) -> Job:
        given = _cache(model, cached)
        (cache,) = given.values()
        with torch.no_grad():
            model(ids, **given)

        def job() -> None:
            for t in range(16):
                model(ids[:, t : t + 1], **given)
            cache.crop(-16)

        return torch.no_grad()(job)

    return steps(True), steps(False)


def _prompt(length: int) -> Tensor:
    return torch.randint(3, 1000, (1, length), generator=torch.Generator().manual_seed(0))


def _cache(model: nn.Module, cached: bool) -> dict[str, Any]:
    """A new cache as an argument of the model, by the name that its version of transformers has for it."""
    from transformers import DynamicCache

    from limelight.huggingface import AttentionCache

    name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    return {name: (AttentionCache if cached else DynamicCache)(config=model.config)}


def _llama() -> nn.Module:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=1000, hidden_size=512, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=2,
        intermediate_size=1024, max_position_embeddings=8192, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def _pair(model: nn.Module, theirs: str, similarity: Similarity | None = None) -> tuple[nn.Module, nn.Module]:
    """A model with Limelight's attention, and a copy with one of transformers' own."""
    from limelight.huggingface import register

    name = "benchmarked" if similarity is None else f"benchmarked {type(similarity).__name__}"
    register(name, similarity or Dot())
    model.eval()
    other = copy.deepcopy(model)
    model.set_attn_implementation(name)
    other.set_attn_implementation(theirs)
    return model, other
