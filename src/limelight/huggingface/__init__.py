"""Other attention mechanisms in the models of `transformers`.

Every attention layer of such a model calls one function for

    out_i = Σ_j P_ij v_j,   P = softmax_j(scale · β(q_i, k_j) + position bias_ij + b_j)

and this module puts Limelight's function in its place. `register` gives a mechanism a name that
transformers accepts; `transplant` uses one in a model, or in some of its layers, within a `with` block:

    register("euclidean", Euclidean(3.0))
    model.set_attn_implementation("euclidean")

    with transplant(model, normalization=Sinkhorn(), layers=[4, 5]):
        model(**tokens)

Two rules hold. First, `Dot` takes the scale that the model gives (1 in T5, a value of its own in Gemma);
every other similarity keeps its default scale, since the model's scale is meant for a dot product.
Second, anything that could change the result and cannot be honored raises `InputError`: packed
sequences given by their lengths, masks on whole heads, any argument that is not known here, and
attention in which a layer does more than it passes to transformers' interface.

Parameters of a similarity or a normalization belong to the caller: they are not part of
`model.parameters()` or the model's state_dict, and `model.to(…)` does not move them. Move them and pass them to the
optimizer yourself.

Needs the extra `huggingface`.
"""

from limelight.errors import MissingExtraError

try:
    import transformers  # noqa: F401
except ImportError as missing:
    raise MissingExtraError(
        f"limelight.huggingface needs {missing.name}, which is not installed; "
        "in a clone of Limelight, run: pip install -e '.[huggingface]'"
    ) from missing

from limelight.huggingface.cache import AttentionCache
from limelight.huggingface.register import register
from limelight.huggingface.transplant import attention_layers, transplant

__all__ = ["AttentionCache", "attention_layers", "register", "transplant"]
