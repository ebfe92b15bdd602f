"""Every head of models of transformers: the weights are eager's, and the outputs do not change by a bit."""

import pytest
import torch
import transformers as hf

from limelight import InputError, microscope
from tests.huggingface import tiny
from tests.microscope.models import TEXT_MODELS, inputs, model, vision, weights_of_eager

EXACT = {"atol": 1e-5, "rtol": 0}


def equal_to_the_bit(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.to_tuple(), b.to_tuple(), strict=True) if isinstance(x, torch.Tensor)
    )


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("padded", ["full", "left", "right"])
@pytest.mark.parametrize("name", TEXT_MODELS)
@torch.no_grad()
def test_the_weights_of_every_head_are_eagers(name, padded, attention):
    made = model(name)
    batch, real = inputs(made, padded), tiny.tokens(padded)["attention_mask"].bool()
    right = weights_of_eager(made(**batch, output_attentions=True))
    if attention == "sdpa":
        if not made._supports_sdpa:
            pytest.skip("transformers has no sdpa for it")
        made.set_attn_implementation("sdpa")
    plain = made(**batch, use_cache=False)
    with microscope.attach(made) as scope:
        out = made(**batch, use_cache=False)
    assert equal_to_the_bit(out, plain)
    assert scope.difference == 0
    assert len(scope) == len(right)
    for layer, weights in enumerate(right):
        for text in (0, 1):
            P, own = scope.select(text=text)[layer], weights[text][:, real[text]][:, :, real[text]]
            torch.testing.assert_close(P.dense(), own, **EXACT)
            torch.testing.assert_close(scope.select(text=text)[layer, 3].dense(), own[3], **EXACT)
            torch.testing.assert_close(torch.cat([P.block(rows) for rows in P.rows()], -2), own, **EXACT)
            i, j = torch.arange(own[0].numel()) // own.shape[-1], torch.arange(own[0].numel()) % own.shape[-1]
            torch.testing.assert_close(P.weights_at(i, j), own.flatten(1), **EXACT)
            torch.testing.assert_close(P.column_mass(), own.sum(-2), atol=1e-4, rtol=0)
            torch.testing.assert_close(P @ torch.eye(own.shape[-1]), own, **EXACT)
            torch.testing.assert_close(P.T @ torch.eye(own.shape[-2]), own.mT, **EXACT)


@torch.no_grad()
def test_no_matrix_is_kept_for_causal_masks_windows_and_relative_biases():
    for name in ("mistral", "gemma2", "t5"):
        made = model(name)
        with microscope.attach(made) as scope:
            made(**inputs(made, "left"))
        for P in scope:
            assert not isinstance(P.mask, microscope.watched_attention.Boolean), P
            assert P.bias is None or P.bias.is_relative, P


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_a_vision_transformer(attention):
    made, images = vision(), torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    right = made(images, output_attentions=True).attentions
    made.set_attn_implementation(attention)
    plain = made(images).last_hidden_state
    with microscope.attach(made) as scope:
        assert torch.equal(made(images).last_hidden_state, plain)
    for layer, weights in enumerate(right):
        torch.testing.assert_close(scope.select(text=1)[layer].dense(), weights[1], **EXACT)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("padded", ["full", "left"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "gemma2", "t5", "bart"])
@torch.no_grad()
def test_a_generation_with_a_cache(name, padded, attention):
    made, prompt = model(name), tiny.tokens(padded)
    if attention == "sdpa" and not made._supports_sdpa:
        pytest.skip("transformers has no sdpa for it")
    made.set_attn_implementation(attention)
    plain = tiny.generated(made, prompt)
    with microscope.attach(made) as scope:
        text = tiny.generated(made, prompt)
    assert torch.equal(text, plain)
    assert scope.difference == 0
    assert scope.steps == 3
    made.set_attn_implementation("eager")
    if made.config.is_encoder_decoder:
        whole = prompt | {"decoder_input_ids": text[:, :-1]}
        real = torch.ones_like(text[:, :-1], dtype=torch.bool)
    else:
        added = torch.ones(len(text), 2, dtype=torch.long)
        whole = {"input_ids": text[:, :-1], "attention_mask": torch.cat([prompt["attention_mask"], added], 1)}
        real = whole["attention_mask"].bool()
        whole["position_ids"] = (real.cumsum(-1) - 1).clamp(min=0)  # as generate counts them
    right = weights_of_eager(made(**whole, output_attentions=True))
    for layer, weights in enumerate(right):
        for row in (0, 1):
            P = scope.select(text=row, step=0)[layer]
            if P.is_cross or layer < (2 if made.config.is_encoder_decoder else 0):
                continue
            last = scope.select(text=row, step=2)[layer]
            own = weights[row][:, -1:, real[row]]
            torch.testing.assert_close(last.dense(), own[..., -last.shape[-1] :], **EXACT)
            assert last.positions.tolist() == [last.shape[-1] - 1]
            if last.has_first:
                assert last.ids.tolist() == text[row, :-1][real[row]].tolist()
    first = scope.select(step=0)
    assert len(first.table()["entropy"]) == len(scope) * 4 * 2


@torch.no_grad()
def test_the_steps_of_a_generation_share_their_keys():
    made, prompt = model("llama"), tiny.tokens()
    with microscope.attach(made) as scope:
        made.generate(**prompt, max_new_tokens=20, min_new_tokens=20, do_sample=False, pad_token_id=0)
    calls = scope._recorder.calls
    assert len({id(call.keys.tensor) for call in calls}) == len(scope) == 2
    assert [call.m for call in calls if call.layer == calls[0].layer] == list(range(9, 29))


@pytest.mark.parametrize("name", ["llama", "mistral"])  # Mistral's is a ring of the last four tokens
@torch.no_grad()
def test_a_cache_of_fixed_size(name):
    made, prompt = model(name, "sdpa"), tiny.tokens("left")
    plain = tiny.generated(made, prompt)
    with microscope.attach(made) as scope:
        assert torch.equal(tiny.generated(made, prompt, cache_implementation="static", disable_compile=True), plain)
    with microscope.attach(made) as usual:
        tiny.generated(made, prompt)
    for step in range(3):
        for text in (0, 1):
            P, Q = (one.select(step=step, text=text)[1] for one in (scope, usual))
            torch.testing.assert_close(P.dense(), Q.dense(), **EXACT)
            assert torch.equal(P.positions, Q.positions)
            assert P.has_first == Q.has_first == (name == "llama" or step == 0)


@torch.no_grad()
def test_a_shared_layer_is_distinguished_by_its_runs():
    made = tiny.model("albert")
    right = made(**tiny.tokens(), output_attentions=True).attentions
    with microscope.attach(made) as scope:
        made(**tiny.tokens())
    assert [name[-8:] for name in scope.layers] == [" (run 1)", " (run 2)"]
    for layer in (0, 1):
        torch.testing.assert_close(scope.select(text=0)[layer].dense(), right[layer][0], **EXACT)
    assert (right[0] - right[1]).abs().max() > 1e-3


def test_gradients_pass_and_the_check_does_not_disturb_a_training_step():
    made, other = (model("llama", "sdpa").train() for _ in range(2))
    made.config.attention_dropout = other.config.attention_dropout = 0.2
    for one in (made, other):
        for layer in one.model.layers:
            layer.self_attn.attention_dropout = 0.2
    gradients = []
    for one in (made, other):
        torch.manual_seed(4)
        if one is made:
            with microscope.attach(one) as scope:
                loss = one(**tiny.tokens(), labels=tiny.IDS).loss
        else:
            loss = one(**tiny.tokens(), labels=tiny.IDS).loss
        loss.backward()
        gradients.append([p.grad for p in one.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert scope.difference == 0
    assert not scope.select(text=0)[0].q.requires_grad


@torch.no_grad()
def test_a_half_precision_model():
    made = model("llama", "sdpa").bfloat16()
    with microscope.attach(made) as scope:
        made(**tiny.tokens("right"))
    P = scope.select(text=1)[0, 0]
    assert P.dense().dtype == torch.float32
    torch.testing.assert_close(P.dense().sum(-1), torch.ones(6))


def state(made):
    return {name: (dict(module.__dict__), id(module.__dict__.get("config"))) for name, module in made.named_modules()}


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_as_it_was(fails):
    made = model("bart")
    before = state(made)
    with pytest.raises(RuntimeError, match="mine") if fails else torch.no_grad(), microscope.attach(made) as scope:
        made(**inputs(made))
        if fails:
            raise RuntimeError("mine")
    assert str(state(made)) == str(before)
    assert len(scope) == 6
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in made.modules()]
    assert sum(hooks) == 0


def test_an_exception_within_the_model_leaves_it_usable():
    made = model("gpt2")
    with microscope.attach(made) as scope, torch.no_grad():
        with pytest.raises(IndexError):
            made(input_ids=torch.full((1, 3), 10**6))
        made(**tiny.tokens())
        assert len(scope) == 2


class Branching(hf.LlamaForCausalLM):
    """A model that computes something else under an attention that it does not know."""

    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        if self.model.layers[0].self_attn.config._attn_implementation not in ("eager", "sdpa"):
            out.logits = out.logits + 1e-3
        return out


def test_a_model_that_watching_would_change_is_refused():
    torch.manual_seed(0)
    made = Branching(hf.LlamaConfig(**tiny.GROUPED)).eval()
    with (
        pytest.raises(InputError, match=r"watching Branching changes its output by 0\.001"),
        microscope.attach(made),
    ):
        made(**tiny.tokens())


def test_a_layer_whose_attention_does_more_is_refused(monkeypatch):
    made = model("llama")
    module = hf.models.llama.modeling_llama
    own = module.eager_attention_forward

    def eager_attention_forward(*args, scaling, **given):
        return own(*args, scaling=2 * scaling, **given)

    monkeypatch.setattr(module, "eager_attention_forward", eager_attention_forward)
    from limelight.huggingface import layers

    layers.eager_function.cache_clear()
    try:
        with (
            pytest.raises(InputError, match=r"self_attn \(LlamaAttention\) cannot be watched"),
            microscope.attach(made),
        ):
            made(**tiny.tokens())
    finally:
        layers.eager_function.cache_clear()


def test_what_cannot_be_watched_is_said_in_a_sentence():
    made = model("llama", "limelight-dot")
    with pytest.raises(InputError, match="uses 'limelight-dot'; call model"):
        microscope.attach(made).__enter__()
    made.set_attn_implementation("sdpa")
    with microscope.attach(made), pytest.raises(InputError, match="watched already"):
        microscope.attach(made).__enter__()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["bart", "t5"])
def test_cross_attention_has_the_tokens_of_the_encoder_also_if_the_decoder_has_as_many(name):
    made, given = model(name), inputs(model(name))
    other = given["input_ids"].flip(1)
    with torch.no_grad(), microscope.attach(made) as scope:
        made(**given | {"decoder_input_ids": other})
        made.generate(given["input_ids"], max_new_tokens=2, do_sample=False, eos_token_id=None)
    for P in scope.select(text=0):
        if P.is_cross:
            assert P.ids.tolist() == given["input_ids"][0].tolist()
    own = [P.ids.tolist() for P in scope.select(text=0, step=0) if not P.is_cross and "decoder" in P.place.name]
    assert own == 2 * [other[0].tolist()]
