"""Ten steps of training in torch's engines for several processes, beside the same steps in one process."""

import copy
import tempfile

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from limelight import Dot, Euclidean, Metric, Softmax, huggingface
from limelight.nn import MultiheadAttention

STEPS, BATCH, TOKENS, WIDTH, HEADS = 10, 4, 7, 16, 4


class Layers(nn.Module):
    """Two layers of attention whose similarities and normalizations learn, and what follows them."""

    def __init__(self, checkpointed=False):
        super().__init__()
        bandwidths = nn.Parameter(torch.tensor([1.0, 1.5, 2.0, 3.0]))
        learned = (Euclidean(bandwidths), Metric(nn.Sequential(nn.Linear(4, 6), nn.Tanh())))
        self.layers = nn.ModuleList(
            MultiheadAttention(
                WIDTH, HEADS, batch_first=True, similarity=similarity, normalization=Softmax.learned(HEADS),
                self_attention=True,
            ) for similarity in learned
        )  # fmt: skip
        self.last, self.checkpointed = nn.Linear(WIDTH, 3), checkpointed

    def forward(self, x):
        for layer in self.layers:
            call = lambda x, layer=layer: x + layer(x, x, x, need_weights=False)[0]  # noqa: E731
            x = checkpoint(call, x, use_reentrant=False) if self.checkpointed else call(x)
        return self.last(x)


def data():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(STEPS, BATCH, TOKENS, WIDTH, generator=generator, dtype=torch.float64)
    y = torch.randn(STEPS, BATCH, TOKENS, 3, generator=generator, dtype=torch.float64)
    return zip(x, y, strict=True)


def fresh(**options):
    torch.manual_seed(1)
    return Layers(**options).double()


def trained(model, own=slice(None), pieces=1):
    """The model after ten steps on rows `own` of each batch, in so many pieces whose gradients are accumulated."""
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for x, y in data():
        optimizer.zero_grad()
        for a, b in zip(x[own].chunk(pieces), y[own].chunk(pieces), strict=True):
            ((model(a) - b).square().mean() / pieces).backward()
        optimizer.step()
    return model


def numbers(model):
    """All parameters of a model by name, whole on each rank."""
    return {name: _whole(x.detach()) for name, x in model.named_parameters()}


def _whole(x):
    return x.full_tensor() if isinstance(x, DTensor) else x


def distance(model, other):
    """The largest difference of two models' parameters."""
    ours = {name.removeprefix("module."): x for name, x in numbers(model).items()}
    theirs = numbers(other)
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)


def own_rows():
    size = BATCH // dist.get_world_size()
    return slice(dist.get_rank() * size, (dist.get_rank() + 1) * size)


def data_parallel(alone):
    return distance(trained(DistributedDataParallel(fresh()), own_rows()), alone)


def checkpointed(alone):
    return distance(trained(DistributedDataParallel(fresh(checkpointed=True)), own_rows()), alone)


def accumulated(alone):
    return distance(trained(fresh(), pieces=2), alone)


def sharded_model():
    model, mesh = fresh(), init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def fully_sharded(alone):
    """The distance after training, after saving and loading, and whether every parameter lay in shards."""
    model = trained(sharded_model(), own_rows())
    in_shards = all(isinstance(x, DTensor) for x in model.parameters())
    with tempfile.TemporaryDirectory() as place:
        folder = [place]
        dist.broadcast_object_list(folder)
        dcp.save(get_model_state_dict(model), checkpoint_id=folder[0])
        restored = sharded_model()
        state = get_model_state_dict(restored)
        dcp.load(state, checkpoint_id=folder[0])
        set_model_state_dict(restored, state)
        dist.barrier()
    return distance(model, alone), distance(restored, alone), in_shards


def tensor_parallel():
    """The distance of a Llama whose heads are shared among the ranks, after ten steps, for dot product and distance."""
    from transformers import LlamaConfig, LlamaForCausalLM

    found = {}
    for kind, similarity in (("dot", Dot()), ("euclidean", Euclidean(2.0))):
        huggingface.register(f"limelight-{kind}", similarity)
        config = LlamaConfig(
            vocab_size=31, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, attn_implementation=f"limelight-{kind}",
        )  # fmt: skip
        torch.manual_seed(2)
        alone = LlamaForCausalLM(config).double()
        shared = copy.deepcopy(alone)
        plan = {f"self_attn.{name}": ColwiseParallel() for name in ("q_proj", "k_proj", "v_proj")}
        plan |= {"self_attn.o_proj": RowwiseParallel()}
        for layer in shared.model.layers:
            parallelize_module(layer, init_device_mesh("cpu", (dist.get_world_size(),)), plan)
        for model in (alone, shared):
            tokens = torch.randint(31, (2, 9), generator=torch.Generator().manual_seed(4))
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            for _ in range(STEPS):
                optimizer.zero_grad()
                model(input_ids=tokens, labels=tokens).loss.backward()
                optimizer.step()
        found[kind] = distance(shared, alone)
    return found


def everything():
    alone = trained(fresh())
    started = fresh()
    return {
        "moved": distance(started, alone), "data parallel": data_parallel(alone), "checkpointed": checkpointed(alone),
        "accumulated": accumulated(alone), "fully sharded": fully_sharded(alone), "tensor parallel": tensor_parallel(),
    }  # fmt: skip
