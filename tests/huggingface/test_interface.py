"""The behavior of `register`, `transplant` and `attention_layers`, and what they refuse."""

import subprocess
import sys

import pytest
import torch
import transformers as hf

from limelight import Cosine, Dot, Euclidean, InputError, Softmax
from limelight.huggingface import attention_layers, register, transplant
from limelight.similarity import ALiBi
from tests.huggingface.tiny import GROUPED, generated, logits, model, tokens


@pytest.mark.parametrize("name", ["eager", "sdpa", "flash_attention_2", "flex_attention", "paged|eager"])
def test_a_name_that_transformers_knows_is_refused(name):
    with pytest.raises(InputError, match="has an attention named"):
        register(name)


@pytest.mark.parametrize("name", ["my_flash", "org/kernel", "sdpa2", "", None])
def test_a_name_with_a_meaning_of_its_own_is_refused(name):
    with pytest.raises(InputError, match=r"meaning|non-empty"):
        register(name)


def test_a_name_registered_by_other_code_is_refused():
    hf.AttentionInterface.register("someone-elses", lambda *args, **given: None)
    with pytest.raises(InputError, match="has an attention named"):
        register("someone-elses")


def test_registering_again_replaces():
    register("limelight-twice", Euclidean(1.0))
    made = model("bert", "limelight-twice")
    with transplant(made, Cosine()):
        cosine = logits(made, tokens())
    assert (logits(made, tokens()) - cosine).abs().max() > 1e-2
    register("limelight-twice", Cosine())
    assert torch.equal(logits(made, tokens()), cosine)


def test_a_name_can_be_given_when_a_model_is_built():
    made = hf.AutoModel.from_config(hf.LlamaConfig(**GROUPED), attn_implementation="limelight-dot")
    assert made.config._attn_implementation == "limelight-dot"


def test_an_unknown_name_is_refused_by_transformers():
    with pytest.raises(ValueError, match="limelihgt"):
        model("bert").set_attn_implementation("limelihgt")


@pytest.mark.parametrize("call", [lambda **given: register("limelight-bad", **given), lambda **given: lent(**given)])
@pytest.mark.parametrize("given", [{"similarity": Dot}, {"similarity": "dot"}, {"normalization": Softmax}], ids=str)
def test_a_mechanism_is_made_of_objects(call, given):
    with pytest.raises(InputError, match=r"expects a .* object"):
        call(**given)


def lent(**given):
    with transplant(model("bert"), **given):
        pass


# --- what cannot be honored -------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [{"head_mask": torch.ones(4)}, {"cu_seq_lens_q": torch.tensor([0, 4, 9])}, {"seq_idx": 1}, {"not_yet_known": 3}],
    ids=lambda given: next(iter(given)),
)
def test_an_argument_that_cannot_be_honored_is_refused(given):
    made = model("bert", "limelight-dot")
    with pytest.raises(InputError, match=f"cannot honor {next(iter(given))}="):
        made(**tokens(), **given)
    made(**tokens(), **dict.fromkeys(given))  # None leaves the default


def test_positions_that_a_cache_hides_are_refused():
    made, batch = model("llama"), tokens("left")
    plain = generated(made, batch)
    with transplant(made, Dot() + ALiBi(heads=4)):
        with pytest.raises(InputError, match="use_cache=False"):
            generated(made, batch)
        assert generated(made, batch, use_cache=False).shape == plain.shape


# --- transplants -------------------------------------------------------------------------------


def state(made):
    """Everything that a forward pass reads: the attributes of each module and of its configuration."""
    return [
        (dict(module.__dict__), vars(module.config).copy() if hasattr(module, "config") else None)
        for module in made.modules()
    ]


@pytest.mark.parametrize("attention", ["eager", "sdpa", "limelight-dot"])
@pytest.mark.parametrize("layers", [None, [1]], ids=str)
@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
def test_the_model_is_afterwards_as_it_was(name, layers, attention):
    made = model(name, attention)
    before, out = state(made), logits(made, tokens())
    with transplant(made, Euclidean(), layers=layers):
        assert (logits(made, tokens()) - out).abs().max() > 1e-3
    with pytest.raises(KeyError), transplant(made, Cosine(), layers=layers):
        raise KeyError
    assert state(made) == before
    assert torch.equal(logits(made, tokens()), out)


def test_only_the_layers_named_change():
    made, batch = model("llama", num_hidden_layers=3), tokens("left")
    before = made(**batch, output_hidden_states=True).hidden_states
    with transplant(made, Euclidean(), layers=[1]) as names:
        assert names == ("model.layers.1.self_attn",)
        during = made(**batch, output_hidden_states=True).hidden_states
    same = [torch.equal(a, b) for a, b in zip(before, during, strict=True)]
    assert same == [True, True, False, False]
    with transplant(made, Euclidean(), layers=[]) as names:
        assert names == ()
        assert torch.equal(made(**batch).logits, made(**batch).logits)


def test_transplants_nest():
    made, batch = model("bert"), tokens()
    eager = logits(made, batch)
    with transplant(made, Euclidean()):
        outer = logits(made, batch)
        with transplant(made, Dot()):
            torch.testing.assert_close(logits(made, batch), eager, atol=1e-5, rtol=0)
        assert torch.equal(logits(made, batch), outer)
    assert (outer - eager).abs().max() > 1e-2
    assert torch.equal(logits(made, batch), eager)


@pytest.mark.parametrize("layer", [2, -1, True, "0", 0.5])
def test_a_layer_out_of_range_is_refused(layer):
    made = model("llama")
    with pytest.raises(InputError, match=f"from 0 to 1, got {layer!r}"), transplant(made, layers=[0, layer]):
        pass
    assert made.model.layers[0].self_attn.config is made.config


def test_a_model_without_such_layers_is_refused():
    with pytest.raises(InputError, match="Linear has no layer"), transplant(torch.nn.Linear(2, 2)):
        pass


def test_a_model_with_masks_for_another_kernel_is_refused():
    made = model("llama", "flex_attention")
    with pytest.raises(InputError, match=r"'flex_attention'; call model\.set_attn_implementation"), transplant(made):
        pass


def test_the_layers_have_names():
    assert attention_layers(model("bert")) == tuple(f"bert.encoder.layer.{i}.attention.self" for i in range(2))
    assert len(attention_layers(model("albert"))) == 1  # it has one layer that is used twice
    first, *_, last = attention_layers(model("t5"))
    assert first == "encoder.block.0.layer.0.SelfAttention"
    assert last == "decoder.block.1.layer.1.EncDecAttention"


def test_transformers_is_needed_only_here():
    program = """
import sys
import limelight
assert "transformers" not in sys.modules
sys.modules["transformers"] = None
try:
    import limelight.huggingface
except limelight.MissingExtraError as error:
    assert "needs transformers, which is not installed; in a clone of Limelight, run: pip install" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", program], check=True)
