"""A layer whose attention uses more than it passes on is refused at its first call; later calls are not checked."""

import pytest
import torch
import transformers as hf
from torch import nn
from transformers import PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from limelight import Euclidean, InputError
from limelight.huggingface import agreement, transplant
from limelight.huggingface.layers import eager_function, uses_attention_interface
from tests.huggingface.tiny import model, tokens


def eager_attention_forward(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """The attention of most models, plus what a `Layer` may do in addition."""
    scores = query @ key.mT * scaling * module.sharper
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = module.normalize(scores)
    return (weights @ value * module.gain).transpose(1, 2).contiguous(), weights


class Layer(nn.Module):
    """One attention layer, written as those of transformers are."""

    def __init__(self, sharper=1.0, gain=1.0, normalize=lambda scores: scores.softmax(-1), told=None):
        super().__init__()
        self.sharper, self.gain, self.normalize, self.told = sharper, gain, normalize, told or {}
        self.config = PreTrainedConfig(attn_implementation="eager")
        self.config._attn_implementation = "eager"

    def forward(self, x):
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        return attend(self, x, x, x, None, scaling=x.shape[-1] ** -0.5, **self.told)[0]


X = torch.randn(2, 3, 7, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _nothing_known():
    agreement._agreed.clear()


def test_a_layer_that_passes_everything_agrees():
    layer = Layer()
    assert eager_function(Layer) is eager_attention_forward
    assert uses_attention_interface(layer)
    own = layer(X)
    with transplant(layer):
        torch.testing.assert_close(layer(X), own)


@pytest.mark.parametrize(
    "beside",
    [
        {"sharper": 1.2},
        {"gain": 1.01},
        {"normalize": torch.sigmoid},
        {"normalize": lambda scores: (50 * (scores / 50).tanh()).softmax(-1)},
        {"normalize": lambda scores: scores.tril().softmax(-1)},
        {"normalize": lambda scores: scores.softmax(-2)},
        {"normalize": lambda scores: scores.softmax(-1).roll(1, -1)},
    ],
    ids=["scale", "gain", "sigmoid", "cap", "mask", "columns", "order"],
)
@pytest.mark.parametrize("similarity", [None, Euclidean()], ids=repr)
def test_a_layer_that_does_more_is_refused_with_any_mechanism(beside, similarity):
    layer = Layer(**beside)
    with transplant(layer, *[similarity] if similarity else []):
        for _ in range(2):  # not only the first time
            with pytest.raises(InputError, match="Layer's own attention does more than the arguments say"):
                layer(X)


def test_a_layer_without_an_attention_of_its_own_has_nothing_to_be_compared_with():
    class Bare(Layer):
        """As in Qwen2.5-Omni's token-to-wave model: it uses the registered function, and has no eager one."""

        def forward(self, x):
            return ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation](self, x, x, x, None, is_causal=False)[0]

    layer = Bare()
    assert eager_function(Bare) is None
    layer.config._attn_implementation = "sdpa"
    own = layer(X)
    with transplant(layer):
        torch.testing.assert_close(layer(X), own)


def test_an_own_attention_that_cannot_be_asked_is_refused():
    def fails(scores):
        raise KeyError("positions")

    layer = Layer(normalize=fails)
    with transplant(layer), pytest.raises(InputError, match=r"could not be compared.*KeyError: 'positions'"):
        layer(X)


def test_a_layer_whose_own_attention_reads_more_is_refused(monkeypatch):
    def reads(module, query, key, value, attention_mask, scaling, dropout=0.0, position_ids=None, **kwargs):
        return eager_attention_forward(module, query, key, value, attention_mask, scaling * (1 + position_ids.sum()))

    monkeypatch.setitem(globals(), "eager_attention_forward", reads)
    eager_function.cache_clear()
    layer = Layer(told={"position_ids": torch.arange(7)})
    with (
        transplant(layer),
        pytest.raises(InputError, match="own attention reads position_ids, which Limelight's cannot"),
    ):
        layer(X)
    eager_function.cache_clear()


def test_it_is_compared_once_and_draws_no_random_numbers(monkeypatch):
    compared = []
    compare = agreement._compare
    monkeypatch.setattr(agreement, "_compare", lambda *args: compared.append(args[1]) or compare(*args))
    made, state = model("llama", "limelight-dot", num_hidden_layers=3), torch.random.get_rng_state()
    for _ in range(3):
        made(**tokens())
    assert len(compared) == 1  # three layers of one class, called three times
    assert torch.equal(torch.random.get_rng_state(), state)
    made(**tokens("left"))
    assert len(compared) == 2  # now with a mask


def test_in_training_nothing_is_dropped_and_no_gradient_is_kept():
    made = model("bert", "limelight-dot", attention_probs_dropout_prob=0.5).train()
    made(**tokens()).logits.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in made.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", [hf.models.llama.modeling_llama.LlamaAttention, hf.models.t5.modeling_t5.T5Attention])
def test_the_function_of_the_models_own_file_is_found(kind):
    own = eager_function(kind)
    assert own.__module__ == kind.__module__
    assert own.__name__ == "eager_attention_forward"
