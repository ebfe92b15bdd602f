"""What each rank raises for bad input, and when another rank ends or is silent."""

import os

import torch
import torch.distributed as dist
from torch import nn

from limelight import (
    Bias,
    Boolean,
    Dot,
    Euclidean,
    LimelightError,
    Metric,
    Sinkhorn,
    Softmax,
    Sparsemax,
    causal,
    distributed,
)
from limelight.distributed import ring
from limelight.mask import Band


def rows(n=4, heads=2, width=8, **options):
    return [torch.randn(heads, n, width, **options) for _ in range(3)]


class Halved(Softmax):
    """A subclass whose weights are its own."""

    def forward(self, scores):
        return super().forward(scores.add_key_bias(torch.zeros(scores.shape[-1])))


class Diluted(Band):
    """A subclass that shows its own pairs."""

    def block(self, rows, cols, device):
        return super().block(rows, cols, device)[::2]


def strayed():
    normalization = Softmax(nn.Parameter(torch.tensor(0.5)))
    normalization.alpha.data.fill_(1.5)
    return normalization


def said(call):
    """The class and the sentence of what it raises, or None."""
    try:
        call()
    except LimelightError as error:
        return [type(error).__name__, str(error)]
    return None


def refusals():
    """What is raised here, by the kind of bad input. The last rank passes other tensors than the rest."""
    last = dist.get_rank() == dist.get_world_size() - 1
    q, k, v = rows()
    attend = distributed.attend
    nan = k.clone()
    nan[0, 1, 3] = torch.nan if last else 0
    mesh = dist.init_device_mesh("cpu", (1, dist.get_world_size()))
    gone = dist.new_group([0, 1])
    dist.destroy_process_group(gone)
    calls = {
        "dtype": lambda: attend(*rows(dtype=torch.float64 if last else torch.float32)),
        "heads": lambda: attend(*rows(heads=3 if last else 2)),
        "width": lambda: attend(*rows(width=6 if last else 8)),
        "width of values": lambda: attend(q, k, v[..., :5] if last else v),
        "length of values": lambda: attend(q, k, v[:, :3] if last else v),
        "similarity": lambda: attend(q, k, v, similarity=Euclidean() if last else Dot()),
        "alpha": lambda: attend(q, k, v, normalization=Softmax(0.5 if last else 0.25)),
        "gradient": lambda: attend(q, k, v.clone().requires_grad_(last)),
        "NaN": lambda: attend(q, nan, v),
        "a mask": lambda: attend(q, k, v, Boolean(torch.ones(4, 8, dtype=torch.bool))),
        "a mask on one rank": lambda: attend(q, k, v, Boolean(torch.ones(4, 8, dtype=torch.bool)) if last else None),
        "a table": lambda: attend(q, k, v, similarity=Dot() + Bias(torch.zeros(4, 4))),
        "sparsemax": lambda: attend(q, k, v, normalization=Sparsemax()),
        "tolerance": lambda: attend(q, k, v, normalization=Sinkhorn(tolerance=1e-3)),
        "a subclass": lambda: attend(q, k, v, normalization=Halved()),
        "a band of one's own": lambda: attend(q, k, v, Diluted(None, 0), order="zigzag"),
        "dropout": lambda: attend(q, k, v, similarity=Metric(nn.Dropout(0.5))),
        "an alpha that left its range": lambda: attend(q, k, v, normalization=strayed()),
        "no order": lambda: attend(q, k, v, is_causal=True),
        "an unknown order": lambda: attend(q, k, v, is_causal=True, order="striped"),
        "a leak": lambda: attend(q, k, v, causal, normalization=Softmax(1.0), order="contiguous"),
        "not dealt": lambda: attend(*rows(5 if last else 4), is_causal=True, order="zigzag"),
        "time-out": lambda: attend(q, k, v, timeout=0),
        "a mesh of two dimensions": lambda: attend(q, k, v, group=mesh),
        "a device without a backend": lambda: attend(*rows(device="meta")),
        "a destroyed group": lambda: attend(q, k, v, group=gone),
    }  # fmt: skip
    found = {name: said(call) for name, call in calls.items()}
    found["a mesh"] = said(lambda: attend(q, k, v, group=dist.init_device_mesh("cpu", (dist.get_world_size(),))))
    dist.destroy_process_group()
    found["no group"] = said(lambda: attend(q, k, v))
    return found


def one_ends(backward):
    """Rank 1 ends at its first transfer of keys, in the forward pass or in the backward pass."""
    q, k, v = (x.requires_grad_() for x in rows())
    out = distributed.attend(q, k, v, timeout=100) if backward else None
    if dist.get_rank() == 1:
        ring.Ring._pass_on = lambda *_: os._exit(0)
    found = said((lambda: out.sum().backward()) if backward else lambda: distributed.attend(q, k, v, timeout=100))
    print(f'["{found[0]}", "{found[1]}"]' if found else "null", flush=True)
    os._exit(0)


def one_is_silent():
    """Rank 1 never calls; the others give up."""
    store = dist.FileStore(os.environ["STORE"], dist.get_world_size())
    if dist.get_rank() == 1:
        store.wait([f"{rank} gave up" for rank in (0, 2)])
        os._exit(0)
    store.set(f"{dist.get_rank()} is here", "")
    store.wait([f"{rank} is here" for rank in (0, 2)])
    found = said(lambda: distributed.attend(*rows(), timeout=5))
    store.set(f"{dist.get_rank()} gave up", "")
    print(f'["{found[0]}", "{found[1]}"]' if found else "null", flush=True)
    os._exit(0)
