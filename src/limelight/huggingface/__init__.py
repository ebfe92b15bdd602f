"""What does a trained transformer do with another attention?

Every attention layer of a `transformers` model asks one function for

    out_i = Σ_j P_ij v_j,   P = softmax_j(scale · β(q_i, k_j) + position bias_ij + b_j)

and here that function is Limelight's. `register` gives a mechanism a name that transformers knows;
`transplant` lends one to a model, or to some of its layers, for the length of a `with`:

    register("euclidean", Euclidean(3.0))
    model.set_attn_implementation("euclidean")

    with transplant(model, normalization=Sinkhorn(), layers=[4, 5]):
        model(**tokens)

Two rules. `Dot` takes the scale that the model gives (T5's is 1, Gemma's its own); every other
similarity keeps its default scale, since the model's belongs to a dot product. And what cannot be
honored (packed sequences by their lengths, masks on whole heads, any argument that is not known
here, attention that a layer computes without telling transformers' interface) raises `InputError`:
nothing that could change the result is passed over.

Parameters of a similarity or a normalization belong to the caller: they are no part of
`model.parameters()`, of its state_dict or of `model.to(…)`. Move them and hand them to the
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

from limelight.huggingface.register import register
from limelight.huggingface.transplant import attention_layers, transplant

__all__ = ["attention_layers", "register", "transplant"]
