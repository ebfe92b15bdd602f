"""DINOv2 from an exported file: the same network as the one that was exported."""

from types import SimpleNamespace

import pytest
import torch

from limelight import InputError
from limelight.models.dinov2 import _FOLDED, VISION_TRANSFORMER, dinov2, vision_transformer
from limelight.models.onnx_weights import read_onnx, weights_of

# How the file, which was exported by another version of transformers, names what this one names otherwise.
OLD = {
    "attention.q_proj.": "attention.attention.query.",
    "attention.k_proj.": "attention.attention.key.",
    "attention.v_proj.": "attention.attention.value.",
    "attention.o_proj.": "attention.output.dense.",
}


@pytest.fixture(scope="module")
def model():
    hf = pytest.importorskip("transformers")
    torch.manual_seed(0)
    size = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2, "image_size": 56, "patch_size": 14}
    made = hf.Dinov2Model(hf.Dinov2Config(**size)).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def exported(model):
    """The graph that torch would export: matrices transposed and without names, and two folded constants."""
    constants, nodes = {}, []
    for name, value in model.state_dict().items():
        for new, old in OLD.items():
            name = name.replace(new, old)
        if name == "embeddings.position_embeddings":
            constants |= {"onnx::Concat_1": value[:, :1], "onnx::Reshape_2": value[:, 1:]}
            nodes.append(("/backbone/embeddings/Concat_6", ["onnx::Concat_1", "x"]))
            nodes.append(("/backbone/embeddings/Reshape_1", ["onnx::Reshape_2", "x"]))
        elif value.ndim == 2 and "mask_token" not in name:
            constants[f"onnx::MatMul_{len(constants)}"] = value.T
            layer = name.removesuffix(".weight").replace("layer.", "layer@")
            nodes.append((f"/backbone/{layer.replace('.', '/').replace('@', '.')}/MatMul", ["x", [*constants][-1]]))
        elif "mask_token" not in name:
            constants[f"backbone.{name}"] = value
    constants["decoder.bias"] = torch.zeros(2)
    nodes.append(("/backbone/encoder/layer.0/attention/attention/MatMul", ["x", "y"]))  # of two that are no constants
    return SimpleNamespace(
        initializer=[SimpleNamespace(name=name, value=value) for name, value in constants.items()],
        node=[SimpleNamespace(name=name, input=names) for name, names in nodes],
    )


def read(graph):
    return weights_of(graph, lambda one: one.value.numpy(), _FOLDED)


def test_it_is_the_network_that_was_exported(model):
    found = dinov2(read(exported(model)), model.config)
    pixels = torch.randn(2, 3, 56, 84, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found(pixels).last_hidden_state, model(pixels).last_hidden_state)
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_other_weights_are_refused(model):
    weights = read(exported(model))
    for name in ("backbone.layernorm.weight", "backbone.encoder.layer.1.mlp.fc1.weight"):
        with pytest.raises(InputError, match=name.removeprefix("backbone.")):
            dinov2({key: value for key, value in weights.items() if key != name}, model.config)
        with pytest.raises(InputError, match=name.removeprefix("backbone.")):
            dinov2(weights | {name: torch.zeros(3)}, model.config)
    with pytest.raises(InputError, match="unexpected"):
        dinov2(weights | {"backbone.encoder.layer.2.mlp.fc1.bias": torch.zeros(96)}, model.config)
    with pytest.raises(InputError, match="have no positions of the patches"):
        dinov2({key: value for key, value in weights.items() if key != "positions of the patches"}, model.config)


def test_a_folded_constant_that_is_not_there_is_named(model):
    graph = exported(model)
    graph.node = [node for node in graph.node if not node.name.endswith("Reshape_1")]
    with pytest.raises(InputError, match=r"Reshape_1.*positions of the patches"):
        read(graph)


def test_a_file_of_onnx_is_read_as_it_was_written(tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install onnx")
    from onnx import TensorProto, helper, numpy_helper

    W, b = torch.randn(3, 2), torch.randn(3)
    nodes = [
        helper.make_node("MatMul", ["x", "onnx::MatMul_1"], ["y"], name="/own/layer/MatMul"),
        helper.make_node("Add", ["y", "own.layer.bias"], ["z"], name="/own/layer/Add"),
    ]
    stored = [
        numpy_helper.from_array(W.T.numpy(), "onnx::MatMul_1"),
        numpy_helper.from_array(b.numpy(), "own.layer.bias"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n]) for name, n in (("x", 2), ("z", 3))]
    onnx.save(helper.make_model(helper.make_graph(nodes, "own", ends[:1], ends[1:], stored)), tmp_path / "own.onnx")
    found = read_onnx(tmp_path / "own.onnx")
    assert torch.equal(found["own.layer.weight"], W)
    assert torch.equal(found["own.layer.bias"], b)


@pytest.mark.slow
def test_the_package_has_it():
    if problem := VISION_TRANSFORMER.missing():
        pytest.skip(problem)
    model = vision_transformer()
    assert (model.config.num_hidden_layers, model.config.num_attention_heads) == (12, 6)
    state = model(torch.zeros(1, 3, 224, 224)).last_hidden_state
    assert state.shape == (1, 257, 384)
    assert state.isfinite().all()
