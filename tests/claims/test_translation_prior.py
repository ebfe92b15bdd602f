"""Translation prior: how training ends, what is read from it, and images that are saved by one arm against another."""

import numpy as np
import pytest
import torch

from limelight.claims import translation_prior as prior
from limelight.claims.translation_prior_clothes import TranslationPriorClothes
from limelight.data import fashion_mnist
from limelight.experiment.fingerprint import source_digest
from limelight.experiment.results import Record, Results
from tests.claims.brief import random_clothes


def of_curves(curves, claim=None):
    """Results of ten seeds whose arms have these accuracies; those that are not named have those of the network."""
    claim = claim or prior.TranslationPrior()
    records = [
        Record(
            claim.name, arm, seed, "done",
            values={"accuracy": 0.5} | {
                f"accuracy at {size}": value + 1e-4 * seed
                for size, value in zip(prior.SIZES, curves.get(arm, curves[prior.FULL]), strict=True)
            },
        )
        for arm in claim.arms
        for seed in range(10)
    ]  # fmt: skip
    return Results(claim.arms, claim.measures, records)


def test_images_are_saved_against_any_arm():
    results = of_curves({prior.FULL: [0.2, 0.3, 0.5, 0.8], prior.CONV: [0.3, 0.5, 0.8, 0.95]})
    assert prior.images_saved(results, prior.CONV).estimate == pytest.approx(3)  # 400 in place of 1,200
    assert prior.images_saved(results, prior.FULL, prior.CONV).estimate == pytest.approx(1 / 3)
    assert prior.images_saved(results, prior.ATTENTION).estimate == pytest.approx(1)
    assert "a convolution needs 33% [" in prior.TranslationPrior().finding(results)
    assert "For clothes that stand anywhere" in TranslationPriorClothes().finding(results)


def test_training_stops_when_the_mean_of_the_last_losses_is_small(monkeypatch):
    losses = [1.0] * 10 + [0.9 * prior.SETTLED] * 190
    monkeypatch.setattr(prior, "descend", lambda model, loss, steps, rate: iter(losses[:steps]))
    nothing = torch.zeros(1, 12, 12), torch.zeros(1, dtype=torch.long), torch.Generator()
    assert prior.trained(prior.CONV, 0.01, *nothing)[1] == 10 + prior.WINDOW
    losses[50:] = [1.0] * 150
    monkeypatch.setattr(prior, "WINDOW", 60)
    assert prior.trained(prior.CONV, 0.01, *nothing)[1] == prior.MODELS[prior.CONV][1] == 200


def test_the_arms_of_attention_differ_in_one_part_each():
    torch.manual_seed(0)
    plain, stem, relative = (prior.MODELS[arm][0]() for arm in (prior.ATTENTION, prior.STEM, prior.RELATIVE))
    sizes = [sum(p.numel() for p in model.parameters()) for model in (plain, stem, relative)]
    claim = prior.TranslationPrior()
    for arm, size in zip((prior.ATTENTION, prior.STEM, prior.RELATIVE), sizes, strict=True):
        assert f"{size:,} parameters" in claim.arms[arm]
    assert 0.05 < float(plain.positions.table.detach().std()) < 0.15
    bias = prior.bias_of(relative)
    assert bias.shape == (4, 5, 5)
    np.testing.assert_allclose(bias, 1 / 25, rtol=1e-6)


def test_clothes_are_drawn_from_fashion_mnist_at_the_size_of_digits(monkeypatch):
    asked = []
    monkeypatch.setattr(fashion_mnist, "split", lambda *given: asked.append(given[:3]) or random_clothes(*given))
    (images, _), (unseen, _) = TranslationPriorClothes().drawn(torch.Generator())
    assert asked == [(1200, 500, 8)]
    assert images.shape == (1200, 8, 8)
    assert unseen.shape == (500, 8, 8)


def test_without_the_data_the_claim_says_how_to_get_it_and_what_stands_in(monkeypatch, tmp_path):
    monkeypatch.setenv(fashion_mnist.FOLDER, str(tmp_path))
    assert "apt install dataset-fashion-mnist" in TranslationPriorClothes().missing()
    assert "digits stand in" in TranslationPriorClothes().missing()
    assert TranslationPriorClothes().data()  # by which results are found without the data


def test_results_of_clothes_are_named_by_the_code_that_draws_them():
    digits, clothes = (source_digest(kind, "measure_at") for kind in (prior.TranslationPrior, TranslationPriorClothes))
    assert digits != clothes
