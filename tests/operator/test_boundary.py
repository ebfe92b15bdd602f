"""Bad input gets one clear sentence: what was expected, what came, what to try."""

import ast
import warnings
from pathlib import Path

import pytest
import torch

import limelight
from limelight import (
    ALiBi,
    Attention,
    Bilinear,
    Convolution,
    Cosine,
    DeviceError,
    Dot,
    DtypeError,
    Euclidean,
    Forgetting,
    Graph,
    InputError,
    KernelError,
    LimelightError,
    Metric,
    RelativeBias,
    Sigmoid,
    Sinkhorn,
    Softmax,
    SymmetricSinkhorn,
    UnknownNameError,
    attend,
    causal,
    padding,
    window,
)
from limelight.kernels import choose

Q, K, V = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 6)


with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # torch's, that nested tensors may change
    NESTED = torch.nested.nested_tensor([torch.randn(3, 5, 4), torch.randn(3, 7, 4)])
JAGGED = torch.nested.nested_tensor([torch.randn(5, 4), torch.randn(7, 4)], layout=torch.jagged)
SPARSE = torch.eye(5).to_sparse()


def spoilt(x, value):
    x = x.clone()
    x[0, 0, 0, 0] = value
    return x


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Attention(Q, K[..., :3]), InputError, "same width.*4 and 3"),
        (lambda: Attention(Q[..., :0], K[..., :0]), InputError, "same width ≥ 1"),
        (lambda: Attention(Q[0, 0, 0], K), InputError, r"at least \(length, width\), got shape \(4,\)"),
        (lambda: Attention(Q, K[:, :2]), InputError, r"do not broadcast: q \(2, 3\), k \(2, 2\).*enable_gqa"),
        (lambda: Attention(Q.double(), K), DtypeError, "share a dtype.*float64 and torch.float32"),
        (lambda: Attention(Q.long(), K.long()), DtypeError, "expects one of torch.float64.*got torch.int64"),
        (lambda: Attention(Q.numpy(), K), DtypeError, "expects a torch tensor, got ndarray"),
        (lambda: Attention(Q.to("meta"), K), DeviceError, "share a device, got meta and cpu"),
        (lambda: Attention(spoilt(Q, float("nan")), K), InputError, "q has 1 NaN or infinite of 120 entries"),
        (lambda: Attention(Q, spoilt(K, float("inf"))), InputError, "k has 1 NaN or infinite"),
        (lambda: Attention(Q, K, "dot"), InputError, "similarity expects a Similarity object, got 'dot'"),
        (lambda: Attention(Q, K, Cosine), InputError, r"got the class Cosine; write Cosine\(\)"),
        (lambda: Attention(Q, K, normalization=Sinkhorn), InputError, r"write Sinkhorn\(\)"),
        (lambda: Attention(Q, K, scale=float("nan")), InputError, "scale must be finite"),
        (lambda: Attention(Q, K, scale=True), InputError, "scale must be finite"),
        (
            lambda: Attention(Q, K, scale=torch.ones(3, 2)),
            InputError,
            r"\(\), \(heads,\) or \(\*batch, 1, 1\), got \(3, 2\)",
        ),
        (lambda: Attention(Q, K, scale=torch.ones(3, 1, 1) / 0), InputError, "must be finite"),
        (lambda: Attention(Q, K, scale=torch.ones((), dtype=torch.int)), DtypeError, "floating"),
        (lambda: Attention(Q, K, kernel="flash"), UnknownNameError, "unknown kernel 'flash'"),
        (lambda: Attention(Q, K, mask=torch.ones(5, 7)), DtypeError, "torch.bool"),
        (lambda: Attention(Q, K, mask=torch.ones(5, 6).bool()), InputError, r"\(\*batch, 5, 7\), got \(5, 6\)"),
        (lambda: Attention(Q, K, mask=torch.ones(4, 1, 5, 7).bool()), InputError, r"the mask \(4, 1\)"),
        (lambda: Attention(Q, K, mask=padding(keys=torch.ones(5).bool())), InputError, r"\(\*batch, 7\), got \(5,\)"),
        (lambda: Attention(Q, K, mask=torch.ones(5, 7).bool().to("meta")), DeviceError, "the mask is on meta"),
        (lambda: Attention(Q, Q, normalization=Softmax(1.0), mask=causal), InputError, "leak the future"),
        (lambda: Attention(Q, Q, normalization=Sinkhorn(2), mask=causal), InputError, "leak the future"),
        (lambda: Attention(Q, K) @ V[..., 0, :, :2].mT, InputError, r"v expects \(\*batch, 7, e\)"),
        (lambda: Attention(Q, K) @ V[0, 0, :, 0], InputError, r"v\[:, None\]"),
        (
            lambda: Attention(Q, K) @ V.double(),
            DtypeError,
            r"v must have the dtype of the operator \(of q and k\), torch.float32",
        ),
        (lambda: Attention(Q, K) @ V.to("meta"), DeviceError, "v must be on the device"),
        (lambda: Attention(Q, K) @ 3, DtypeError, "got int"),
        (lambda: Attention(Q, K).T @ V, InputError, r"w expects \(\*batch, 5, e\)"),
        (lambda: Euclidean(0.0), InputError, r"Euclidean\(bandwidth=…\) must be positive and finite.*got 0.0"),
        (lambda: Euclidean(-1.0), InputError, "got -1.0"),
        (lambda: Euclidean(float("inf")), InputError, "bandwidth"),
        (lambda: Euclidean(torch.tensor([1.0, 0.0])), InputError, "bandwidth"),
        (lambda: Metric(3), InputError, "module or function"),
        (lambda: Attention(Q, K, Metric(lambda x: x.sum(-1))), InputError, "φ must map q of shape"),
        (lambda: Attention(Q, K, Metric(lambda x: x.double())) @ V, InputError, "same dtype"),
        (lambda: Attention(Q, K, Metric(lambda x: x / 0)) @ V, InputError, "φ returned NaN or infinity for q"),
        (lambda: Softmax(1.5), InputError, r"in \[0, 1\].*got 1.5"),
        (lambda: Softmax(-0.1), InputError, r"\[0, 1\]"),
        (lambda: Softmax(float("nan")), InputError, r"\[0, 1\]"),
        (lambda: Sinkhorn(0), InputError, "whole number ≥ 1"),
        (lambda: SymmetricSinkhorn(0.0), InputError, "expects a positive number, got 0.0"),
        (lambda: SymmetricSinkhorn(steps=0), InputError, "whole number ≥ 1, got 0"),
        (lambda: Attention(Q, Q, Bilinear(4), SymmetricSinkhorn()), InputError, "not declare itself symmetric; use"),
        (lambda: Attention(Q, K, Dot(), SymmetricSinkhorn()), InputError, "expects q and k to be the same tokens"),
        (lambda: Attention(Q, Q, Dot(), SymmetricSinkhorn(), window(1, 0) | window(0, 2)), InputError, "they are not"),
        (
            lambda: Attention(Q, Q, Dot(), SymmetricSinkhorn(), Graph(torch.tensor([[0], [1]]), 5)),
            InputError,
            "they are not",
        ),
        (lambda: Attention(Q, K, Dot() + ALiBi(heads=4)), InputError, r"do not broadcast: .*the similarity \(4,\)"),
        (lambda: attend(Q, K, V, dropout_p=1.0), InputError, r"in \[0, 1\), got 1.0"),
        (lambda: attend(Q, K, V, dropout_p="a"), InputError, r"in \[0, 1\), got 'a'"),
        (lambda: attend(Q, Q, Q, scale="a"), InputError, "scale must be finite"),
        (lambda: attend(Q, Q, Q, is_causal="yes"), InputError, "is_causal expects True or False, got 'yes'"),
        (lambda: attend(None, K, V), DtypeError, "q expects a torch tensor, got NoneType"),
        (lambda: attend(Q[0, 0, 0], K, V), InputError, r"at least \(length, width\)"),
        (lambda: attend(NESTED, NESTED, NESTED), InputError, "q expects.*nested; pad it"),
        (lambda: attend(JAGGED, JAGGED, JAGGED), InputError, "q expects.*nested; pad it"),
        (lambda: Attention(Q, Q) @ NESTED, InputError, "v expects.*nested; pad it"),
        (lambda: Attention(Q, Q) @ SPARSE, InputError, r"v expects.*sparse; write .to_dense\(\)"),
        (lambda: attend(SPARSE, SPARSE, SPARSE), InputError, "q expects.*sparse"),
        (lambda: attend(Q, Q, Q, SPARSE), InputError, "added to the scores expects.*sparse"),
        (lambda: attend(Q, Q, Q, torch.zeros(5)), InputError, r"\(\*batch, 5, 5\), got \(5,\)"),
        (lambda: attend(Q, Q, Q, torch.zeros(7, 1, 5, 5)), InputError, "do not broadcast"),
        (lambda: ALiBi(slopes=[1.0]), InputError, "a tensor \\(heads,\\) of finite numbers ≥ 0"),
        (lambda: ALiBi(slopes=torch.tensor([float("inf")])), InputError, "finite numbers ≥ 0"),
        (lambda: ALiBi(offset="a"), InputError, r"ALiBi\(offset=…\) expects a whole number, .*got 'a'"),
        (lambda: RelativeBias(2, offset=0.5), InputError, "expects a whole number"),
        (lambda: Convolution(torch.tensor([float("nan")])), InputError, "finite numbers"),
        (lambda: Convolution(torch.ones(1), sharpness="a"), InputError, "sharpness=….*positive and finite"),
        (lambda: Forgetting(torch.zeros(3), offset=-1), InputError, "expects a whole number ≥ 0"),
        (lambda: Sigmoid("a"), InputError, "a finite number, got 'a'"),
        (lambda: Attention(Q, K).mean_distance(0.5), InputError, "expects a whole number, .*got 0.5"),
        (lambda: attend(Q, K, V, torch.full((5, 7), float("nan"))), InputError, "finite numbers"),
        (lambda: attend(Q, K, V, torch.full((5, 6), 0.5)), InputError, r"\(\*batch, 5, 7\), got \(5, 6\)"),
        (
            lambda: attend(Q, K, V, torch.zeros(9, 7)[:, :1].expand(9, 7)),
            InputError,
            r"\(\*batch, 5, 7\), got \(9, 7\)",
        ),
        (lambda: attend(Q, K, V, torch.full((9, 7), 0.5)), InputError, r"\(\*batch, 5, 7\), got \(9, 7\)"),
        (lambda: attend(Q, K[:, :2], V[:, :2], enable_gqa=True), InputError, "whole number g"),
    ],
)
def test_one_clear_sentence(make, error, says):
    with pytest.raises(error, match=says) as caught:
        out = make()
        _ = out @ V if isinstance(out, Attention) else out  # φ is checked when the operator is applied
    assert isinstance(caught.value, LimelightError)
    assert "\n" not in str(caught.value)


def test_a_named_kernel_never_falls_back():
    q = torch.empty(2, 3, 4, device="meta")
    with pytest.raises(KernelError, match=r"kernel='fused' cannot serve this call.*not on meta"):
        choose("fused", q.device, q.dtype, Dot(), None)
    assert choose("auto", q.device, q.dtype, Dot(), None) == "reference"
    assert Attention(Q, K).kernel == "fused"
    assert Attention(Q, K, kernel="reference").kernel == "reference"


def test_the_errors_are_what_python_users_catch():
    assert issubclass(InputError, ValueError)
    assert issubclass(DtypeError, TypeError)
    assert issubclass(UnknownNameError, LookupError)
    assert "did you mean 'fused'" in str(UnknownNameError("kernel", "fusd", ["fused", "reference"]))


def test_the_public_names_are_complete():
    stub = ast.parse(Path(limelight.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    (named,) = [ast.literal_eval(each.value) for each in stub.body if isinstance(each, ast.Assign)]
    assert set(named) == set(limelight.__all__) == set(dir(limelight))
    assert all(hasattr(limelight, name) for name in named)
    assert callable(limelight.attend)  # the function, not the module of that name
    with pytest.raises(AttributeError, match="attned"):
        _ = limelight.attned


def test_a_learned_bandwidth_out_of_range_is_refused():
    similarity = Euclidean(torch.nn.Parameter(torch.tensor(1.0)))
    assert [name for name, _ in similarity.named_parameters()] == ["bandwidth"]
    Attention(Q, K, similarity)
    with torch.no_grad():
        similarity.bandwidth.fill_(-1.0)
    with pytest.raises(InputError, match=r"Euclidean\(bandwidth=…\) must be positive and finite, got"):
        Attention(Q, K, similarity)


def test_its_repr_names_its_parts():
    assert repr(Attention(Q, K, Euclidean(2.0), Softmax(0.5), padding(keys=torch.ones(7).bool()))) == (
        "Attention((2, 3, 5, 7), Euclidean(bandwidth=2.0), Softmax(alpha=0.5), mask=padding, kernel='fused')"
    )
    assert repr(Attention(Q, K, Dot()).T).endswith(").T")
