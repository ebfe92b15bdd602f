"""The weights of a network that was exported to ONNX, under the names that they had in torch.

An exported file is a graph of operations. It keeps most weights by their own names. Two kinds are renamed, since the
export computes with them beforehand: the matrix of a linear layer, which it transposes, and constants that it folds.
The matrix is found again by the operation that uses it, which is named after the layer: the node
`/encoder/layer.0/mlp/fc1/MatMul` multiplies by the transpose of `encoder.layer.0.mlp.fc1.weight`.

Reading a file runs no code: ONNX is a format of plain numbers (protocol buffers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limelight.errors import InputError, MissingExtraError

_PRODUCT = "/MatMul"  # how the name of a linear layer's node ends
_RENAMED = "onnx::"  # how the names begin that an export makes up


def read_onnx(path: Path, folded: Mapping[str, str] | None = None) -> dict[str, Tensor]:
    """The weights in an ONNX file by their names in torch. `folded` names those constants that no layer names.

    Its keys are nodes, and its values the names of the constants that enter them. Raises `MissingExtraError` without
    the package onnx, and `InputError` if a folded constant is not there.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise MissingExtraError(f"{path.name} is in the format ONNX, which onnx reads: pip install onnx") from None
    return weights_of(onnx.load(str(path)).graph, lambda stored: numpy_helper.to_array(stored).copy(), folded or {})


def weights_of(graph: Any, array: Callable[[Any], Any], folded: Mapping[str, str]) -> dict[str, Tensor]:
    """The weights of a graph of ONNX; `array` turns one of its stored constants into an array.

    >>> from types import SimpleNamespace as Thing
    >>> from limelight.models.onnx_weights import weights_of
    >>> stored = [Thing(name='layer.bias', value=[0.0, 1.0]), Thing(name='onnx::7', value=[[1.0, 2.0]])]
    >>> nodes = [Thing(name='/layer/MatMul', input=['x', 'onnx::7'])]
    >>> found = weights_of(Thing(initializer=stored, node=nodes), lambda one: one.value, {})
    >>> found['layer.bias'].tolist(), found['layer.weight'].tolist()
    ([0.0, 1.0], [[1.0], [2.0]])
    """
    constants = {one.name: torch.as_tensor(array(one)) for one in graph.initializer}
    found = {name: value for name, value in constants.items() if not name.startswith(_RENAMED)}
    entering = {node.name: [name for name in node.input if name in constants] for node in graph.node}
    for node, names in entering.items():
        if node.endswith(_PRODUCT) and names:
            found[_layer(node) + ".weight"] = constants[names[0]].mT.contiguous()
    for node, name in folded.items():
        if len(entering.get(node, [])) != 1:
            raise InputError(f"the node {node!r} of the graph takes no constant, which should be {name}")
        found[name] = constants[entering[node][0]]
    return found


def _layer(node: str) -> str:
    """`encoder.layer.0.mlp.fc1` for `/encoder/layer.0/mlp/fc1/MatMul`."""
    return node.removesuffix(_PRODUCT).strip("/").replace("/", ".")
