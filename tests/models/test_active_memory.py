"""Active memories are their formulas, written out here position by position in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limelight import InputError
from limelight.mask import causal
from limelight.models.active_memory import (
    CGRU,
    Both,
    Convolution,
    ConvolutionMemory,
    HighwayMemory,
    PersistentConvolution,
    SelfAttention,
)
from limelight.models.sequence_transformer import SequenceTransformer

WIDTH = 6
REACHES = [(0, 0), (2, 2), (3, 0), (0, 1), (1, 4)]
MEMORIES = {
    "convolution": lambda reach: ConvolutionMemory(WIDTH, reach),
    "persistent": lambda reach: ConvolutionMemory(WIDTH, reach, PersistentConvolution),
    "highway": lambda reach: HighwayMemory(WIDTH, reach),
    "CGRU": lambda reach: CGRU(WIDTH, reach),
}


def sequences(n=7, batch=3, width=WIDTH, seed=0):
    return torch.randn(batch, n, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_hand(layer, s):
    """Σ_j U_j s_{i+j} + b, one position and one neighbor after the other; beyond the ends zero or what was learned."""
    kernels = layer.linear.weight.unflatten(-1, (layer.before + 1 + layer.after, -1))  # (outputs, shifts, inputs)
    out = torch.zeros(*s.shape[:-1], kernels.shape[0], dtype=s.dtype)
    for i in range(s.shape[-2]):
        for place, j in enumerate(range(-layer.before, layer.after + 1)):
            at = i + j
            if 0 <= at < s.shape[-2]:
                seen = s[..., at, :]
            elif not isinstance(layer, PersistentConvolution):
                continue
            else:
                edge = layer.front[layer.before + at] if at < 0 else layer.back[at - s.shape[-2]]
                seen = edge.expand(*s.shape[:-2], -1)
            out[..., i, :] += seen @ kernels[:, place].T
    return out + layer.linear.bias


@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("kind", [Convolution, PersistentConvolution])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_convolution_is_its_sum(kind, reach, n):
    layer, s = kind(WIDTH, 4, reach).double(), sequences(n)
    torch.testing.assert_close(layer(s), by_hand(layer, s))


def test_a_convolution_is_torchs():
    layer, s = Convolution(WIDTH, 4, (2, 2)).double(), sequences()
    kernel = layer.linear.weight.unflatten(-1, (5, WIDTH)).mT  # (outputs, inputs, shifts)
    torch.testing.assert_close(layer(s), F.conv1d(s.mT, kernel, layer.linear.bias, padding=2).mT)


@pytest.mark.parametrize("reach", REACHES)
def test_the_cgru_is_its_formula(reach):
    memory, s = CGRU(WIDTH, reach).double(), sequences()
    u, r = torch.sigmoid(by_hand(memory.gates, s)).split(WIDTH, -1)
    expected = u * s + (1 - u) * torch.tanh(by_hand(memory.update, r * s))
    torch.testing.assert_close(memory(s), expected)


def test_the_cgru_is_torchs_gru_cell_where_it_sees_no_neighbor():
    """With a kernel of width one and without inputs, each position is a GRU, but for where r is multiplied."""
    memory, s = CGRU(WIDTH, (0, 0)).double(), sequences()
    with torch.no_grad():
        memory.gates.linear.weight[WIDTH:] = 0
        memory.gates.linear.bias[WIDTH:] = 40.0  # r = 1, where both agree
    cell = nn.GRUCell(1, WIDTH).double()
    with torch.no_grad():
        cell.weight_ih.zero_()
        cell.bias_ih.zero_()
        gates, update = memory.gates.linear, memory.update.linear
        cell.weight_hh.copy_(torch.cat([gates.weight[WIDTH:], gates.weight[:WIDTH], update.weight]))
        cell.bias_hh.copy_(torch.cat([gates.bias[WIDTH:], gates.bias[:WIDTH], update.bias]))
    flat = s.flatten(0, 1)
    torch.testing.assert_close(memory(s).flatten(0, 1), cell(torch.zeros(len(flat), 1, dtype=s.dtype), flat))


def test_the_highway_is_its_formula_and_keeps_exactly_where_its_gate_is_open():
    memory, s = HighwayMemory(WIDTH, (2, 1)).double(), sequences()
    g = (1.2 * torch.sigmoid(by_hand(memory.gate, s)) - 0.1).clip(0, 1)
    torch.testing.assert_close(memory(s), g * s + (1 - g) * F.gelu(by_hand(memory.update, s)))
    with torch.no_grad():
        memory.gate.linear.weight.zero_()
        memory.gate.linear.bias.fill_(3.0)  # σ(3) = 0.953, which is 1.04 when stretched
    assert torch.equal(memory(s), s)
    with torch.no_grad():
        memory.gate.linear.bias.fill_(-3.0)
    torch.testing.assert_close(memory(s), F.gelu(by_hand(memory.update, s)))


@pytest.mark.parametrize("kind", [Convolution, PersistentConvolution])
def test_convolution_memory_is_a_gelu_of_a_convolution(kind):
    memory, s = ConvolutionMemory(WIDTH, (1, 2), kind).double(), sequences()
    torch.testing.assert_close(memory(s), F.gelu(by_hand(memory.update, s)))


def test_both_is_a_sum():
    memory, attention, s = CGRU(WIDTH, (1, 1)).double(), SelfAttention(WIDTH, 2).double(), sequences()
    torch.testing.assert_close(Both(memory, attention)(s), memory(s) + attention(s))


def test_self_attention_is_torchs():
    ours, s = SelfAttention(WIDTH, 2).double(), sequences()
    torchs = nn.MultiheadAttention(WIDTH, 2, batch_first=True).double()
    torchs.load_state_dict(ours.attention.state_dict())
    torch.testing.assert_close(ours(s), torchs(s, s, s)[0])


@pytest.mark.parametrize("name", MEMORIES)
@pytest.mark.parametrize("reach", REACHES)
def test_a_position_depends_on_its_neighborhood_alone(name, reach):
    memory, s = MEMORIES[name](reach).double(), sequences(n=12)
    jacobian = torch.autograd.functional.jacobian(lambda x: memory(x[None])[0].sum(-1), s[0]).abs().sum(-1)
    span = (2 if name == "CGRU" else 1) * torch.tensor(reach)  # the CGRU convolves what is convolved already
    offset = torch.arange(12) - torch.arange(12)[:, None]
    assert torch.equal(jacobian > 0, (offset >= -span[0]) & (offset <= span[1]))


def transformer(mix, layers=2):
    torch.manual_seed(0)
    return SequenceTransformer(11, WIDTH, [mix() for _ in range(layers)], longest=16).double()


CAUSAL = {
    **{name: (lambda make=make: make((3, 0))) for name, make in MEMORIES.items()},
    "attention": lambda: SelfAttention(WIDTH, 2, mask=causal),
    "both": lambda: Both(CGRU(WIDTH, (3, 0)), SelfAttention(WIDTH, 2, mask=causal)),
    "per position": lambda: ConvolutionMemory(WIDTH, (0, 0)),
}


@pytest.mark.parametrize("name", CAUSAL)
def test_a_later_character_never_changes_an_earlier_prediction(name):
    model = transformer(CAUSAL[name])
    x = torch.randint(11, (4, 16), generator=torch.Generator().manual_seed(1))
    before = model(x)
    for changed in range(16):
        other = x.clone()
        other[:, changed] = (x[:, changed] + 1) % 11
        after = model(other)
        assert torch.equal(after[:, :changed], before[:, :changed])
        assert (after[:, changed] != before[:, changed]).any(-1).all()


def test_without_a_causal_mask_a_later_character_does_change_it():
    for mix in (lambda: SelfAttention(WIDTH, 2), lambda: CGRU(WIDTH, (1, 1))):
        model = transformer(mix)
        x = torch.zeros(1, 8, dtype=torch.long)
        other = x.clone()
        other[:, 5] = 1
        assert (model(other)[:, 4] != model(x)[:, 4]).any()


def test_a_network_without_mixing_treats_each_position_alone():
    model = transformer(CAUSAL["per position"])
    x = torch.zeros(1, 8, dtype=torch.long)
    other = x.clone()
    other[:, 5] = 1
    changed = (model(other) != model(x)).any(-1)[0]
    assert changed.tolist() == [i == 5 for i in range(8)]


def test_the_transformer_is_its_equation():
    model = transformer(CAUSAL["convolution"])
    x = torch.randint(11, (2, 9), generator=torch.Generator().manual_seed(2))
    s = model.symbol.weight[x] + model.from_front.weight[:9] + model.from_back.weight[:9].flip(0)
    for layer in model.layers:
        s = s + layer.mix(layer.norm(s))
        s = s + layer.feed_forward.network(layer.feed_forward.norm(s))
    torch.testing.assert_close(model(x), model.last(s))


def test_wrong_settings_are_refused():
    for reach in [(-1, 0), (1,), (1, 2, 3), (1.5, 0), (True, 0)]:
        with pytest.raises(InputError, match="two whole numbers"):
            Convolution(4, 4, reach)
    with pytest.raises(InputError, match="at most longest=16 symbols, got 17"):
        transformer(CAUSAL["attention"])(torch.zeros(1, 17, dtype=torch.long))
