"""Calls whose outputs and gradients, sharded over several processes, must equal those of one process."""

import copy
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import nn

from limelight import (
    ALiBi,
    Attention,
    Cosine,
    Dot,
    Euclidean,
    Hybrid,
    InputError,
    Laplacian,
    Metric,
    RelativeBias,
    Sinkhorn,
    Softmax,
    attend,
    causal,
    distributed,
    documents,
    padding,
    window,
)
from limelight.distributed import order


@dataclass
class Case:
    similarity: object = field(default_factory=Dot)
    normalization: object = field(default_factory=Softmax)
    mask: str | None = None
    order: str = "zigzag"
    n: int = 37
    m: int | None = None
    heads: int = 2
    key_heads: int = 2
    scale: object = None


def phi():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 5), nn.Tanh())


def relative():
    similarity = RelativeBias(4, 2)
    torch.manual_seed(1)
    nn.init.normal_(similarity.table)
    return similarity


CASES = {
    "dot": lambda: Case(),
    "cosine": lambda: Case(Cosine()),
    "euclidean, a learned bandwidth": lambda: Case(Euclidean(nn.Parameter(torch.tensor([1.5, 3.0])))),
    "metric": lambda: Case(Metric(phi())),
    "laplacian, on the chunked kernel": lambda: Case(Laplacian()),
    "causal": lambda: Case(mask="causal"),
    "causal, contiguous": lambda: Case(Euclidean(2.0), mask="causal", order="contiguous"),
    "more keys than queries": lambda: Case(mask="causal", n=12, m=29),
    "window": lambda: Case(mask="window"),
    "window, runs of one or two rows": lambda: Case(mask="window", n=14),
    "padding": lambda: Case(Euclidean(2.0), mask="padding"),
    "causal and padding": lambda: Case(mask="causal padding"),
    "causal and documents": lambda: Case(mask="causal documents"),
    "fewer rows than ranks": lambda: Case(n=3, mask="causal"),
    "one row": lambda: Case(n=1),
    "positions": lambda: Case(Dot() + ALiBi(2), mask="causal"),
    "learned positions": lambda: Case(Dot() + relative()),
    "grouped heads": lambda: Case(heads=6, key_heads=2, mask="causal padding"),
    "grouped heads with bandwidths": lambda: Case(Euclidean(nn.Parameter(torch.rand(4) + 1)), heads=4, key_heads=2),
    "grouped heads, doubly normalized": lambda: Case(Euclidean(2.0), Softmax(1.0), heads=4, key_heads=2),
    "a learned temperature": lambda: Case(Dot(), Softmax(temperature=nn.Parameter(torch.tensor([0.7, 2.0])))),
    "a negative scale": lambda: Case(scale=-0.3),
    "alpha": lambda: Case(Euclidean(2.0), Softmax(0.5)),
    "alpha under padding": lambda: Case(Metric(phi()), Softmax(1.0), mask="padding"),
    "learned alpha": lambda: Case(Cosine(), Softmax.learned(2)),
    "sinkhorn": lambda: Case(Euclidean(2.0), Sinkhorn(3)),
    "hybrid": lambda: Case(Euclidean(2.0), Hybrid(2)),
}


def masks(words, n, m, order):
    """(the mask of the whole sequence, the mask with this rank's tokens)."""
    whole, own = [], []
    rows = lambda x: distributed.shard(x[..., None], order=order)[..., 0]  # noqa: E731
    for word in (words or "").split():
        if word in ("causal", "window"):
            both = causal if word == "causal" else window(4, 2)
            whole, own = [*whole, both], [*own, both]
        elif word == "padding":
            keys, queries = torch.rand(2, 1, m) > 0.2, torch.rand(2, 1, n) > 0.2
            whole.append(padding(keys=keys, queries=queries))
            own.append(padding(keys=rows(keys), queries=rows(queries)))
        else:
            q, k = torch.arange(n) // 5, torch.arange(m) // 5
            whole.append(documents(q, k))
            own.append(documents(rows(q), rows(k)))
    return _joined(whole), _joined(own)


def _joined(parts):
    joined = None
    for part in parts:
        joined = part if joined is None else joined & part
    return joined


def difference(name, dtype):
    """The largest error of outputs and gradients, measured by the size of each: sharded, and in one process."""
    torch.manual_seed(0)
    case = CASES[name]()
    dtype = getattr(torch, dtype)
    n, m = case.n, case.n if case.m is None else case.m
    whole_mask, own_mask = masks(case.mask, n, m, case.order)
    whole = [
        torch.randn(2, h, t, 8, dtype=dtype) for h, t in ((case.heads, n), (case.key_heads, m), (case.key_heads, m))
    ]
    going = torch.randn(2, case.heads, n, 8, dtype=dtype)
    gqa = case.heads != case.key_heads
    for module in (case.similarity, case.normalization):
        module.to(dtype)
    settings = {"scale": case.scale, "enable_gqa": gqa}
    results = []
    for sharded in (False, True):
        similarity, normalization = copy.deepcopy((case.similarity, case.normalization))
        learned = [*similarity.parameters(), *normalization.parameters()]
        q, k, v = (x.clone().requires_grad_() for x in whole)
        kinds = {"similarity": similarity, "normalization": normalization, **settings}
        if sharded:
            parts = [distributed.shard(x, order=case.order) for x in (q, k, v)]
            out = distributed.attend(*parts, own_mask, order=case.order, **kinds)
            (out * distributed.shard(going, order=case.order)).sum().backward()
            gradients = [x.grad for x in (q, k, v, *learned)]
            for x in gradients:
                dist.all_reduce(x)
            out = distributed.gather(out.detach(), order=case.order)
        else:
            out = attend(q, k, v, whole_mask, **kinds)
            (out * going).sum().backward()
            gradients = [x.grad for x in (q, k, v, *learned)]
        results.append([out.detach(), *gradients])
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in zip(*reversed(results), strict=True))


# Those that a test of a few seconds compares: each way to cut, to mask and to normalize once.
FEW = (
    "euclidean, a learned bandwidth", "causal", "window", "causal and padding", "learned positions",
    "grouped heads, doubly normalized", "learned alpha", "hybrid",
)  # fmt: skip


def differences(dtype, names):
    return {name: difference(name, dtype) for name in names}


def far_from_the_origin():
    """The error in float32 of points whose mean is 300 times their spread, sharded and in one process."""
    whole = torch.randn(3, 2, 24, 8, dtype=torch.float64)
    q, k, v = (whole + torch.tensor([300.0, 300.0, 0.0])[:, None, None, None]).unbind()
    exact = attend(q, k, v, similarity=Euclidean(2.0))
    q, k, v = (x.float() for x in (q, k, v))
    parts = [distributed.shard(x) for x in (q, k, v)]
    out = distributed.gather(distributed.attend(*parts, similarity=Euclidean(2.0)))
    return [float((x - exact).abs().max()) for x in (out, attend(q, k, v, similarity=Euclidean(2.0)))]


def half_precision():
    """(dtypes of output and gradient, their errors beside those of one process), in bfloat16 and under autocast."""
    found = {}
    for kind in ("bfloat16", "autocast"):
        results = []
        for sharded in (False, True):
            torch.manual_seed(0)
            q, k, v = (x.requires_grad_() for x in torch.randn(3, 2, 24, 8).unbind())
            parts = [distributed.shard(x) if sharded else x for x in (q, k, v)]
            call = distributed.attend if sharded else attend
            with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
                parts = parts if kind == "autocast" else [x.bfloat16() for x in parts]
                out = call(*parts, similarity=Euclidean(2.0), normalization=Softmax(0.5))
            out.float().square().sum().backward()
            if sharded:
                for x in (q, k, v):
                    dist.all_reduce(x.grad)
            whole = distributed.gather(out.detach()) if sharded else out.detach()
            results.append([whole, q.grad, k.grad, v.grad])
        found[kind] = [str(results[1][0].dtype), max(float((a - b).abs().max()) for a, b in zip(*results, strict=True))]
    return found


def hidden_nan():
    """True if a key and a value of NaN that padding hides have no effect on outputs and gradients."""
    q, k, v = torch.randn(3, 2, 12, 8, dtype=torch.float64).unbind()
    real = torch.rand(12) > 0.3
    bad = [torch.where(real[:, None], x, torch.nan) for x in (k, v)]
    own = padding(keys=distributed.shard(real[:, None])[:, 0])
    parts = [distributed.shard(x).requires_grad_() for x in (q, *bad)]
    out = distributed.attend(*parts, own)
    out.sum().backward()
    near = torch.allclose(distributed.gather(out.detach()), attend(q, k, v, padding(keys=real)), atol=1e-12)
    return near and all(bool(x.grad.isfinite().all()) for x in parts)


def second_derivative():
    """What is raised where a gradient is to be differentiated again, for each pass and for `gather`."""
    q, k, v = (x.requires_grad_() for x in torch.randn(3, 4, 8).unbind())
    outs = {
        "rows": distributed.attend(q, k, v), "columns": distributed.ShardedAttention(q, k).column_mass(),
        "gather": distributed.gather(k),
    }  # fmt: skip
    found = {}
    for name, out in outs.items():
        try:
            torch.autograd.grad(out.sum(), k, create_graph=True)
        except InputError as error:
            found[name] = str(error)
    return found


def everything(shortest, names, dtypes):
    """What is compared with one process; a run of at least twice `shortest` rows is cut into pieces."""
    order.SHORTEST_PIECE = shortest
    return {
        **{dtype: differences(dtype, names) for dtype in dtypes}, "measures": measure_differences(),
        "far": far_from_the_origin(), "half": half_precision(), "hidden": hidden_nan(), "again": second_derivative(),
    }  # fmt: skip


MEASURES = ("logsumexp", "entropy", "column_mass", "free_energy")


def measure_differences():
    """The largest error of each measure and of its gradients, for each normalization and mask."""
    found = {}
    kinds = {
        "softmax": (Softmax(temperature=0.7), "causal padding"), "alpha": (Softmax(0.5), "padding"),
        "sinkhorn": (Sinkhorn(3), None), "hybrid": (Hybrid(2), None),
    }  # fmt: skip
    for kind, (normalization, words) in kinds.items():
        normalization = normalization.double()
        for measure in MEASURES if kind != "hybrid" else ("column_mass",):
            torch.manual_seed(0)
            n = 23
            whole_mask, own_mask = masks(words, n, n, "zigzag")
            whole, going = torch.randn(2, 2, 2, n, 8, dtype=torch.float64).unbind(), torch.randn(2, 2, n).double()
            results = []
            for sharded in (False, True):
                q, k = (x.clone().requires_grad_() for x in whole)
                if sharded:
                    parts = (distributed.shard(x) for x in (q, k))
                    A = distributed.ShardedAttention(*parts, Euclidean(2.0), normalization, own_mask, order="zigzag")
                    value = getattr(A, measure)()
                    part = distributed.shard(going[..., None])[..., 0]
                else:
                    value, part = getattr(Attention(q, k, Euclidean(2.0), normalization, whole_mask), measure)(), going
                finite = value.isfinite()
                (torch.where(finite, value, 0) * part).sum().backward()
                gradients = [q.grad, k.grad]
                if sharded:
                    for x in gradients:
                        dist.all_reduce(x)
                    value = distributed.gather(value.detach()[..., None])[..., 0]
                results.append([value.detach(), *gradients])
            pairs = zip(*results, strict=True)
            same = all(torch.equal(a.isfinite(), b.isfinite()) for a, b in zip(*results, strict=True))
            apart = max(float((a - b).nan_to_num(0, 0, 0).abs().max()) for a, b in pairs)
            found[f"{kind} {measure}"] = apart if same else float("inf")
    return found
