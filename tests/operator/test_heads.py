"""Numbers for single heads: one convention in every class; saving, moving and copying a module include them."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from limelight import (
    Attention,
    Bias,
    Dot,
    DtypeError,
    Euclidean,
    Graph,
    InputError,
    Laplacian,
    ScalableSoftmax,
    Scaled,
    Softmax,
    SoftmaxWithSink,
    StudentT,
    attend,
    causal,
    documents,
    padding,
)

HEADS = 3
NUMBERS = torch.tensor([0.3, 0.6, 0.9])
OBJECTS = {
    "Euclidean(bandwidth)": (lambda x: (Euclidean(x), Softmax()), "0.bandwidth"),
    "Laplacian(bandwidth)": (lambda x: (Laplacian(x), Softmax()), "0.bandwidth"),
    "StudentT(nu)": (lambda x: (StudentT(x), Softmax()), "0.nu"),
    "Scaled(scale)": (lambda x: (Dot() + Scaled(Euclidean(), x), Softmax()), "0.terms.1.scale"),
    "Euclidean in a sum": (lambda x: (Dot() + Euclidean(x), Softmax()), "0.terms.1.bandwidth"),
    "Softmax(alpha)": (lambda x: (Dot(), Softmax(alpha=x)), "1.alpha"),
    "SoftmaxWithSink(sink)": (lambda x: (Dot(), SoftmaxWithSink(x)), "1.sink"),
    "ScalableSoftmax(s)": (lambda x: (Dot(), ScalableSoftmax(x)), "1.s"),
    "Softmax(temperature)": (lambda x: (Dot(), Softmax(temperature=x)), "1.temperature"),
}


def operands(heads=HEADS):
    return [torch.randn(2, heads, 5, 4) for _ in range(3)]


def apply(objects, q, k, v):
    return Attention(q, k, *objects) @ v


@pytest.mark.parametrize("kind", ["tensor", "parameter"])
@pytest.mark.parametrize("shape", [(HEADS,), (HEADS, 1, 1), (1, HEADS, 1, 1)], ids=str)
@pytest.mark.parametrize("name", OBJECTS)
def test_each_head_has_its_own(name, shape, kind):
    make, _ = OBJECTS[name]
    q, k, v = operands()
    value = NUMBERS.reshape(shape)
    out = apply(make(nn.Parameter(value) if kind == "parameter" else value), q, k, v)
    for head, number in enumerate(NUMBERS.tolist()):
        alone = apply(make(number), *(x[:, head] for x in (q, k, v)))
        torch.testing.assert_close(out[:, head], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(apply(make(torch.tensor(0.3)), q, k, v), apply(make(0.3), q, k, v))


@pytest.mark.parametrize("name", OBJECTS)
def test_heads_that_queries_and_keys_do_not_have(name):
    make, _ = OBJECTS[name]
    q, k, v = operands(1)
    assert Attention(q, k, *make(NUMBERS)).shape == (2, HEADS, 5, 5)
    assert apply(make(NUMBERS), q, k, v).shape == (2, HEADS, 5, 4)


@pytest.mark.parametrize("kind", ["tensor", "parameter"])
@pytest.mark.parametrize("name", OBJECTS)
def test_a_number_for_heads_is_saved_moved_and_copied(name, kind):
    make, key = OBJECTS[name]
    value = NUMBERS.clone()
    held = nn.ModuleList(make(nn.Parameter(value) if kind == "parameter" else value))
    assert [n for n, _ in held.named_parameters()] == ([key] if kind == "parameter" else [])
    torch.testing.assert_close(held.state_dict()[key], NUMBERS)
    assert copy.deepcopy(held).double().state_dict()[key].dtype == torch.float64
    assert copy.deepcopy(held).to("meta").state_dict()[key].device.type == "meta"
    torch.testing.assert_close(pickle.loads(pickle.dumps(held)).state_dict()[key], NUMBERS)
    other = nn.ModuleList(make(torch.ones(HEADS)))
    other.load_state_dict(held.state_dict())
    q, k, v = operands()
    torch.testing.assert_close(apply(other, q, k, v), apply(held, q, k, v))


@pytest.mark.parametrize("name", OBJECTS)
def test_it_learns(name):
    make, _ = OBJECTS[name]
    q, k, v = operands()
    number = nn.Parameter(NUMBERS.clone().double())
    q, k, v = (x.double() for x in (q, k, v))
    (gradient,) = torch.autograd.grad(apply(make(number), q, k, v).square().sum(), number)
    for head in range(HEADS):
        step = torch.zeros(HEADS).double()
        step[head] = 1e-6
        with torch.no_grad():
            ahead, behind = (apply(make(NUMBERS.double() + s), q, k, v).square().sum() for s in (step, -step))
        torch.testing.assert_close(gradient[head], (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-8)


def test_a_tensor_that_another_network_makes_gets_its_gradient():
    """It is a buffer that requires a gradient, on every kernel."""
    q, k, v = operands()
    source = torch.zeros(HEADS, requires_grad=True)
    for objects in (
        (Euclidean(source.exp()), Softmax()),
        (StudentT(source.exp()), Softmax()),
        (Dot(), Softmax(source.sigmoid())),
    ):
        (gradient,) = torch.autograd.grad(apply(objects, q, k, v).square().sum(), source)
        assert (gradient != 0).all()


def test_the_scale_of_a_call():
    q, k, v = operands()
    for scale in (NUMBERS, NUMBERS[:, None, None]):
        out = attend(q, k, v, scale=scale)
        for head, number in enumerate(NUMBERS.tolist()):
            torch.testing.assert_close(out[:, head], attend(q[:, head], k[:, head], v[:, head], scale=number))


@pytest.mark.parametrize(
    "similarity", [Dot(), Euclidean(), StudentT(), Dot() + Euclidean()], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("scale", [-0.7, 0.0, torch.tensor([-0.5, 0.0, 2.0])], ids=str)
def test_a_scale_that_is_negative_or_zero(similarity, scale):
    """As in torch: a negative scale prefers the least similar keys, and zero gives all the same weight."""
    q, k, v = (x.double().requires_grad_() for x in operands())
    found = []
    for kernel in ("auto", "chunked", "reference"):
        A = Attention(q, k, similarity, mask=causal, scale=scale, kernel=kernel)
        parts = A @ v, A.entropy(), A.column_mass()
        found.append((*parts, *torch.autograd.grad(sum(x.square().sum() for x in parts), (q, k, v))))
    for mine in found[:2]:
        torch.testing.assert_close(mine, found[2])
    with pytest.raises(InputError, match="expects a scale > 0"):
        A.free_energy()


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Euclidean(torch.ones(3, 2)), InputError, r"\(\), \(heads,\) or \(\*batch, 1, 1\), got \(3, 2\)"),
        (lambda: StudentT(torch.ones(3).int()), DtypeError, "floating dtype, got torch.int32"),
        (lambda: Softmax(alpha=torch.tensor([0.5, 1.5])), InputError, r"in \[0, 1\], got .* from 0.5 to 1.5"),
        (lambda: Softmax(temperature=nn.Parameter(torch.tensor(-1.0))), InputError, "positive and finite"),
        (lambda: Scaled(Dot(), float("nan")), InputError, "finite: a number"),
        (lambda: Laplacian("1"), InputError, "got '1'"),
        (lambda: Softmax(temperature=True), InputError, "got True"),
    ],
)
def test_other_values_raise_one_sentence(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_a_bias_is_saved_moved_and_copied():
    table = torch.randn(5, 5)
    for held in (Bias(table), Bias(nn.Parameter(table))):
        torch.testing.assert_close(copy.deepcopy(held).double().table.float(), table)
        assert list(held.state_dict()) == ["table"]
    assert [name for name, _ in Bias(nn.Parameter(table)).named_parameters()] == ["table"]


@pytest.mark.parametrize(
    "mask",
    [
        causal,
        padding(keys=torch.arange(5) > 0),
        documents(torch.arange(5) // 2),
        Graph(torch.tensor([[0, 1, 4], [1, 2, 4]]), 5),
        ~(causal & (torch.eye(5) > 0)),
    ],
    ids=repr,
)
def test_masks_are_copied_and_pickled(mask):
    q, k, v = (torch.randn(5, 4) for _ in range(3))
    expected = attend(q, k, v, mask=mask)
    stored = io.BytesIO()
    torch.save(mask, stored)
    stored.seek(0)
    for other in (copy.deepcopy(mask), pickle.loads(pickle.dumps(mask)), torch.load(stored, weights_only=False)):
        torch.testing.assert_close(attend(q, k, v, mask=other), expected)
