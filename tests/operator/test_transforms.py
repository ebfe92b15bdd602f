"""torch.func, batches of gradients, forward mode, tensors without data and exported graphs work as in torch."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, hessian, jacrev, jvp, stack_module_state, vmap

from limelight import (
    Attention,
    Dot,
    Entmax,
    Euclidean,
    Graph,
    InputError,
    KernelError,
    Laplacian,
    RelativeBias,
    Sinkhorn,
    Softmax,
    StudentT,
    SymmetricSinkhorn,
    TopK,
    attend,
    causal,
    padding,
    window,
)
from limelight.nn import MultiheadAttention
from limelight.propagation import resolvent

N, WIDTH = 4, 2
EDGES = torch.stack([torch.arange(N).repeat(2), torch.cat([torch.arange(N), (torch.arange(N) + 1) % N])])
CASES = {
    "dot": (Dot(), Softmax(), None),
    "dot, causal": (Dot(), Softmax(), causal),
    "euclidean, padding": (Euclidean(torch.tensor([1.0, 2.0])), Softmax(0.5), padding(keys=torch.arange(N) % 3 > 0)),
    "student, sinkhorn, boolean": (StudentT(2.0), Sinkhorn(2), torch.arange(N * N).reshape(N, N) % 5 > 0),
    "relative, entmax, window": (Dot() + RelativeBias(2, heads=2), Entmax(), window(2, 1)),
    "laplacian, topk, graph": (Laplacian(2.0), TopK(2), Graph(EDGES, N)),
}


def energy(case):
    similarity, normalization, mask = case

    def of(q, k, v):
        A = Attention(q, k, similarity, normalization, mask)
        return (A @ v).square().sum() + A.entropy().sum() + A.column_mass().square().sum()

    return of


def operands(*batch):
    return tuple(torch.randn(*batch, 2, N, WIDTH).double() for _ in range(3))


@pytest.fixture(params=CASES)
def f(request):
    similarity, normalization, mask = CASES[request.param]
    return energy((similarity.double(), normalization.double(), mask))


def test_vmap_and_per_sample_gradients(f):
    q, k, v = operands(3)
    torch.testing.assert_close(vmap(f)(q, k, v), torch.stack([f(*x) for x in zip(q, k, v, strict=True)]))
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    expected = torch.autograd.grad(sum(f(*x) for x in zip(*leaves, strict=True)), leaves)
    torch.testing.assert_close(vmap(grad(f, argnums=(0, 1, 2)))(q, k, v), expected)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch calls it itself in forward mode
def test_hessians(f):
    q, k, v = operands()
    expected = torch.autograd.functional.hessian(lambda x: f(x, k, v), q)
    torch.testing.assert_close(jacrev(jacrev(f))(q, k, v), expected)
    torch.testing.assert_close(hessian(f)(q, k, v), expected)  # forward over reverse


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_forward_mode(f):
    (q, k, v), direction = operands(), torch.randn(2, N, WIDTH).double()
    expected = (grad(f)(q, k, v) * direction).sum()
    torch.testing.assert_close(jvp(lambda x: f(x, k, v), (q,), (direction,))[1], expected)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(q, direction)
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(f(dual, k, v)).tangent, expected)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch's own attention warns too
def test_a_batch_of_gradients_at_once(f):
    q, k, v = operands()
    q.requires_grad_()

    def rows():
        return torch.stack([f(q, k, v), f(q, 2 * k, v), f(2 * q, k, v)])

    expected = [torch.autograd.grad(row, q, retain_graph=True)[0] for row in rows()]
    (got,) = torch.autograd.grad(rows(), q, torch.eye(3).double(), is_grads_batched=True)
    torch.testing.assert_close(got, torch.stack(expected))


def test_an_ensemble_of_layers():
    layers = [MultiheadAttention(8, 2, batch_first=True, similarity=Euclidean(2.0)) for _ in range(3)]
    parameters, buffers = stack_module_state(layers)
    x = torch.randn(2, 5, 8)

    def call(parameters, buffers):
        return functional_call(layers[0], (parameters, buffers), (x, x, x), {"need_weights": False})[0]

    together = vmap(call)(parameters, buffers)
    torch.testing.assert_close(together, torch.stack([layer(x, x, x, need_weights=False)[0] for layer in layers]))


def test_unsupported_calls_say_what_to_do():
    q = torch.randn(3, N, WIDTH)
    for kernel in ("fused", "chunked"):
        with pytest.raises(KernelError, match="use kernel='auto' there"):
            vmap(lambda x: Attention(x, x, kernel=kernel) @ x)(q)  # noqa: B023
    with pytest.raises(InputError, match=r"use Sinkhorn\(steps\) there"):
        vmap(lambda x: Attention(x, x, normalization=Sinkhorn(tolerance=1e-3)) @ x)(q)
    with pytest.raises(InputError, match=r"use Sinkhorn\(steps\) there"):
        vmap(lambda x: Attention(x, x, Euclidean(), SymmetricSinkhorn()) @ x)(q)
    with pytest.raises(InputError, match=r"irreversibility.*outside"):
        vmap(lambda x: Attention(x, x).irreversibility())(q)


def test_the_resolvent():
    h = torch.randn(N, 2).double()

    def f(x):
        return resolvent(Attention(x, x, Euclidean(2.0)), h, 0.5).square().sum()

    x = torch.randn(3, N, WIDTH).double().requires_grad_()
    (expected,) = torch.autograd.grad(sum(map(f, x)), x)
    torch.testing.assert_close(vmap(grad(f))(x.detach()), expected)


@pytest.mark.parametrize("device", ["meta", "fake"])
@pytest.mark.parametrize("normalization", [Softmax(), Softmax(1.0), Sinkhorn(2), Entmax(), TopK(2)], ids=str)
@pytest.mark.parametrize("similarity", [Dot(), Euclidean(2.0), StudentT()], ids=str)
def test_tensors_without_data_have_shapes(similarity, normalization, device):
    from torch._subclasses.fake_tensor import FakeTensorMode

    def shapes(q):
        A = Attention(q, 1 * q, similarity, normalization, causal if isinstance(normalization, TopK) else None)
        out = A @ q
        (out.sum() + A.entropy().sum() + A.mean_position().sum()).backward()
        assert out.shape == q.shape == q.grad.shape
        assert A.column_mass().shape == q.shape[:-1]

    if device == "meta":
        shapes(torch.randn(2, 3, 9, 8, device="meta", requires_grad=True))
        return
    with FakeTensorMode():
        shapes(torch.randn(2, 3, 9, 8, requires_grad=True))


def test_a_layer_built_on_meta():
    with torch.device("meta"):
        layer = MultiheadAttention(8, 2, batch_first=True)
        out, _ = layer(*3 * [torch.randn(2, 5, 8)], need_weights=False)
    assert out.shape == (2, 5, 8)


EXPORTED = """
import torch
from limelight import *
from limelight.nn import MultiheadAttention

class Call(torch.nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.options = options
    def forward(self, q, k, v, *mask):
        return attend(q, k, v, *mask, **self.options)

class Layer(torch.nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.layer = MultiheadAttention(16, 4, batch_first=True, **options)
    def forward(self, x, pad):
        return self.layer(x, x, x, key_padding_mask=pad, need_weights=False)[0]

def biased(n):
    bias = torch.randn(n, n)
    bias[0, 1] = -torch.inf
    return bias

def qkv(n):
    return tuple(torch.randn(2, 4, n, 8) for _ in range(3))

n = torch.export.Dim("n", min=2, max=5000)
everywhere = ({2: n},) * 3
cases = [(Call(**options), qkv(9), everywhere, qkv(23)) for options in (
    dict(is_causal=True), dict(similarity=Euclidean(2.0)), dict(normalization=Softmax(1.0)),
    dict(similarity=Dot() + ALiBi(4), is_causal=True), dict(similarity=StudentT() + RelativeBias(3, 4)),
    dict(normalization=TopK(2)), dict(mask=window(3, 2)),
)]
cases += [(Call(), (*qkv(9), m(9)), (*everywhere[:3], ({0: n, 1: n},)), (*qkv(23), m(23)))
          for m in (biased, lambda n: biased(n) > -1)]
cases += [(Layer(similarity=Euclidean(2.0)), (torch.randn(2, 9, 16), torch.zeros(2, 9).bool()), ({1: n}, {1: n}),
           (torch.randn(2, 23, 16), torch.rand(2, 23) > 0.7))]
for module, given, shapes, other in cases:
    shapes = shapes if len(given) != 4 else {"q": shapes[0], "k": shapes[1], "v": shapes[2], "mask": shapes[3]}
    program = torch.export.export(module.eval(), given, dynamic_shapes=shapes)
    torch.testing.assert_close(program.module()(*other), module(*other), rtol=1e-4, atol=1e-5)
    print(module)
"""


@pytest.mark.slow
def test_it_is_exported_with_a_length_of_its_own():
    """In a process of its own: the checks of shapes that the tests switch on cannot be traced."""
    done = subprocess.run([sys.executable, "-c", EXPORTED], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_attend_in_a_module_that_is_called_functionally():
    layer = nn.Linear(WIDTH, WIDTH).double()
    x = torch.randn(N, WIDTH).double()

    def loss(parameters):
        h = functional_call(layer, parameters, (x,))
        return attend(h, h, h, similarity=Euclidean(2.0)).square().sum()

    parameters = dict(layer.named_parameters())
    got = grad(loss)({name: p.detach() for name, p in parameters.items()})
    expected = torch.autograd.grad(loss(parameters), list(parameters.values()))
    torch.testing.assert_close(tuple(got.values()), expected)
