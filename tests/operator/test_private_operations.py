"""torch's private operations: the arguments that are used, and what happens if an operation is missing."""

import warnings
from types import SimpleNamespace

import pytest
import torch

from limelight import Attention, Dot, Euclidean, KernelError, Softmax, causal
from limelight.kernels.backends import operations

SCHEMAS = {
    "_scaled_dot_product_flash_attention_for_cpu": "(Tensor query, Tensor key, Tensor value, float dropout_p=0., "
    "bool is_causal=False, *, Tensor? attn_mask=None, float? scale=None) -> (Tensor output, Tensor logsumexp)",
    "_scaled_dot_product_flash_attention_for_cpu_backward": "(Tensor grad_out, Tensor query, Tensor key, Tensor value, "
    "Tensor out, Tensor logsumexp, float dropout_p, bool is_causal, *, Tensor? attn_mask=None, float? scale=None) -> "
    "(Tensor grad_query, Tensor grad_key, Tensor grad_value)",
    "_scaled_dot_product_efficient_attention": "(Tensor query, Tensor key, Tensor value, Tensor? attn_bias, "
    "bool compute_log_sumexp, float dropout_p=0., bool is_causal=False, *, float? scale=None) -> "
    "(Tensor output, Tensor log_sumexp, Tensor philox_seed, Tensor philox_offset)",
    "_scaled_dot_product_efficient_attention_backward": "(Tensor grad_out_, Tensor query, Tensor key, Tensor value, "
    "Tensor attn_bias, Tensor out, Tensor logsumexp, Tensor philox_seed, Tensor philox_offset, float dropout_p, "
    "bool[4] grad_input_mask, bool is_causal=False, *, float? scale=None) -> (Tensor, Tensor, Tensor, Tensor)",
    "_scaled_dot_product_cudnn_attention": "(Tensor query, Tensor key, Tensor value, Tensor? attn_bias, "
    "bool compute_log_sumexp, float dropout_p=0., bool is_causal=False, bool return_debug_mask=False, *, "
    "float? scale=None) -> (Tensor output, Tensor logsumexp, Tensor cum_seq_q, Tensor cum_seq_k, SymInt max_q, "
    "SymInt max_k, Tensor philox_seed, Tensor philox_offset, Tensor debug_attn_mask)",
    "_scaled_dot_product_cudnn_attention_backward": "(Tensor grad_out, Tensor query, Tensor key, Tensor value, "
    "Tensor out, Tensor logsumexp, Tensor philox_seed, Tensor philox_offset, Tensor attn_bias, Tensor cum_seq_q, "
    "Tensor cum_seq_k, SymInt max_q, SymInt max_k, float dropout_p, bool is_causal, *, float? scale=None) -> "
    "(Tensor, Tensor, Tensor)",
    "_scaled_dot_product_flash_attention": "(Tensor query, Tensor key, Tensor value, float dropout_p=0., "
    "bool is_causal=False, bool return_debug_mask=False, *, float? scale=None) -> (Tensor output, Tensor logsumexp, "
    "Tensor cum_seq_q, Tensor cum_seq_k, SymInt max_q, SymInt max_k, Tensor rng_state, Tensor unused, "
    "Tensor debug_attn_mask)",
    "_scaled_dot_product_flash_attention_backward": "(Tensor grad_out, Tensor query, Tensor key, Tensor value, "
    "Tensor out, Tensor logsumexp, Tensor cum_seq_q, Tensor cum_seq_k, SymInt max_q, SymInt max_k, float dropout_p, "
    "bool is_causal, Tensor philox_seed, Tensor philox_offset, *, float? scale=None) -> "
    "(Tensor grad_query, Tensor grad_key, Tensor grad_value)",
}
EXPECTED = [each for pair in operations.EXPECTED.values() for each in pair]


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda e: e.name)
def test_the_schema_of_this_torch(expected):
    schema = getattr(torch.ops.aten, expected.name).default._schema
    assert str(schema).partition("(")[2] == SCHEMAS[expected.name].partition("(")[2]
    assert operations._serves(schema, expected)


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("_scaled_dot_product_flash_attention_for_cpu", None),
        ("_scaled_dot_product_flash_attention_for_cpu_backward", None),
        (
            "_scaled_dot_product_flash_attention_for_cpu",
            "f(Tensor query, Tensor key, Tensor value) -> (Tensor, Tensor)",
        ),
        (
            "_scaled_dot_product_flash_attention_for_cpu",
            "f(Tensor query, Tensor key, Tensor value, float dropout_p, bool is_causal, Tensor sinks, *, "
            "Tensor? attn_mask=None, float? scale=None) -> (Tensor, Tensor)",
        ),
        (
            "_scaled_dot_product_flash_attention_for_cpu",
            "f(Tensor query, Tensor key, Tensor value, float dropout_p, bool is_causal, *, "
            "Tensor? attn_mask=None, float? scale=None) -> Tensor",
        ),
    ],
    ids=["no forward", "no backward", "takes less", "wants more", "returns less"],
)
def test_without_torchs_operation_the_chunked_kernel_runs_after_one_warning(monkeypatch, name, new):
    q, k, v = (torch.randn(2, 9, 4, requires_grad=True) for _ in range(3))
    expected = [(Attention(q, k, s, mask=causal) @ v).detach() for s in (Dot(), Euclidean())]
    real = {each.name: getattr(torch.ops.aten, each.name) for each in EXPECTED}
    real[name] = new and SimpleNamespace(default=SimpleNamespace(_schema=torch._C.parse_schema(new)))
    aten = SimpleNamespace(**{key: value for key, value in real.items() if value is not None})
    monkeypatch.setattr(torch.ops, "aten", aten)
    monkeypatch.setattr(operations, "_reasons", {})

    with pytest.warns(UserWarning, match=f"operation {name}.*runs on the slower chunked kernel") as caught:
        found = [Attention(q, k, s, mask=causal) for s in (Dot(), Euclidean())]
    assert len(caught) == 1
    assert [A.kernel for A in found] == ["chunked", "chunked"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Attention(q, k, normalization=Softmax(1.0)).kernel == "chunked"
    monkeypatch.undo()
    for A, right in zip(found, expected, strict=True):
        torch.testing.assert_close(A @ v, right)
    monkeypatch.setattr(torch.ops, "aten", aten)
    monkeypatch.setattr(operations, "_reasons", {"cpu": f"no operation {name}"})
    with pytest.raises(KernelError, match=f"cannot serve this call.*{name}"):
        Attention(q, k, kernel="fused")
