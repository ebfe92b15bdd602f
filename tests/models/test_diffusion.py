"""Diffusion against closed forms: the noised marginal, samplers of a Gaussian whose score is known, and guidance."""

import pytest
import torch
from torch.distributions import Normal

from limelight import InputError
from limelight.models.denoiser import Denoiser, NoisyClassifier, noisy_classification_loss
from limelight.models.diffusion import (
    NoiseSchedule,
    ancestral_samples,
    cosine_schedule,
    ddim_encoded,
    ddim_samples,
    denoising_loss,
    guided,
    linear_schedule,
    variations,
)

MEAN, SPREAD = 1.5, 0.4  # of a Gaussian


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def double(schedule):
    return NoiseSchedule(schedule.betas[1:].double())


def exact(schedule, mean=MEAN, spread=SPREAD):
    """E[ε | x_t] where x ~ N(mean, spread²): −√(1 − ᾱ) times the gradient of the log-density of x_t."""

    def noise_of(x, t):
        kept = schedule.alpha_bar[t].view(-1, *[1] * (x.dim() - 1))
        return (1 - kept).sqrt() * (x - kept.sqrt() * mean) / (kept * spread**2 + 1 - kept)

    return noise_of


@pytest.mark.parametrize("make", [linear_schedule, cosine_schedule])
def test_a_schedule_is_the_product_of_its_steps_and_ends_in_noise(make):
    schedule = make(1000)
    product = 1.0
    for t in range(1, 1001):
        product *= 1 - float(schedule.betas[t])
        assert float(schedule.alpha_bar[t]) == pytest.approx(product, rel=1e-3, abs=1e-9)
    assert schedule.alpha_bar[0] == 1
    assert schedule.alpha_bar[1000] < 1e-4
    assert (schedule.alpha_bar.diff() < 0).all()


def test_a_thousand_linear_steps_are_those_of_the_paper():
    betas = linear_schedule(1000).betas
    assert float(betas[1]) == pytest.approx(1e-4)
    assert float(betas[1000]) == pytest.approx(0.02)


def test_half_of_the_way_of_the_cosine_schedule_is_half_noise():
    assert float(cosine_schedule(100).alpha_bar[50]) == pytest.approx(0.5, abs=0.02)


def test_many_small_steps_have_the_marginal_of_one():
    """x_t = √(1 − β_t) x_{t−1} + √β_t z, step by step, against the mean and the variance in closed form."""
    schedule, t = double(linear_schedule(40)), 25
    x = torch.full((200_000,), 2.0, dtype=torch.float64)
    generator = seeded()
    for s in range(1, t + 1):
        beta = schedule.betas[s]
        x = (1 - beta).sqrt() * x + beta.sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    kept = float(schedule.alpha_bar[t])
    assert float(x.mean()) == pytest.approx(2 * kept**0.5, abs=0.01)
    assert float(x.var()) == pytest.approx(1 - kept, rel=0.01)
    once = schedule.noised(torch.full((200_000,), 2.0).double(), torch.full((200_000,), t), normal(200_000, seed=1))
    assert float(once.mean()) == pytest.approx(2 * kept**0.5, abs=0.01)
    assert float(once.var()) == pytest.approx(1 - kept, rel=0.01)


def test_noising_is_exact_for_one_number_and_has_a_time_for_each_sample():
    schedule = NoiseSchedule(torch.tensor([0.36, 0.5]))
    x, noise = torch.tensor([[1.0], [1.0], [1.0]]), torch.tensor([[1.0], [1.0], [2.0]])
    found = schedule.noised(x, torch.tensor([0, 1, 2]), noise)
    torch.testing.assert_close(found, torch.tensor([[1.0], [0.8 + 0.6], [0.32**0.5 + 2 * 0.68**0.5]]))


@pytest.mark.parametrize("make", [linear_schedule, cosine_schedule])
@pytest.mark.parametrize("steps", [1000, 100])
def test_ddim_with_the_exact_noise_recovers_a_gaussian(make, steps):
    """The exact path takes a point z of N(0, 1) to mean + spread · z."""
    schedule = double(make(1000))
    noise = normal(500)
    found = ddim_samples(exact(schedule), schedule, noise, steps)
    torch.testing.assert_close(found, MEAN + SPREAD * noise, atol=0.03 if steps == 1000 else 0.1, rtol=0)


def test_more_steps_of_ddim_are_nearer():
    schedule, noise = double(cosine_schedule(1000)), normal(100)
    errors = [
        float((ddim_samples(exact(schedule), schedule, noise, steps) - MEAN - SPREAD * noise).abs().max())
        for steps in (5, 50, 500)
    ]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


@pytest.mark.parametrize("make", [linear_schedule, cosine_schedule])
def test_ancestral_sampling_with_the_exact_noise_recovers_a_gaussian(make):
    schedule = double(make(400))
    found = ancestral_samples(exact(schedule), schedule, normal(40_000), seeded(1))
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(found.std()) == pytest.approx(SPREAD, rel=0.03)


def test_one_step_of_each_sampler_is_its_equation():
    schedule = NoiseSchedule(torch.tensor([0.36, 0.5]).double())
    x, constant = normal(3, 2, 2), lambda x, t: torch.full_like(x, 0.25)
    image = (x - 0.68**0.5 * 0.25) / 0.32**0.5
    torch.testing.assert_close(ddim_samples(constant, schedule, x, 1), image)
    middle = 0.8 * image + 0.6 * 0.25
    torch.testing.assert_close(ddim_samples(constant, schedule, x, 2), (middle - 0.6 * 0.25) / 0.8)
    mean = (x - 0.5 / 0.68**0.5 * 0.25) / 0.5**0.5
    noise = torch.randn(x.shape, generator=seeded(7), dtype=torch.float64)
    middle = mean + (0.5 * 0.36 / 0.68) ** 0.5 * noise
    last = (middle - 0.36 / 0.6 * 0.25) / 0.8  # without noise
    torch.testing.assert_close(ancestral_samples(constant, schedule, x, seeded(7)), last)


def test_ddim_is_deterministic_given_its_noise_and_ancestral_sampling_is_not():
    schedule = cosine_schedule(20)
    model, noise = Denoiser(schedule, 8, 16), torch.randn(3, 8, 8)
    assert torch.equal(ddim_samples(model, schedule, noise, 5), ddim_samples(model, schedule, noise, 5))
    first, second = (ancestral_samples(model, schedule, noise, seeded(seed)) for seed in (1, 2))
    assert (first - second).abs().max() > 0.01
    assert torch.equal(first, ancestral_samples(model, schedule, noise, seeded(1)))


def test_encoding_is_the_way_back():
    schedule = double(cosine_schedule(1000))
    images = MEAN + SPREAD * normal(100)
    noise = ddim_encoded(exact(schedule), schedule, images, 1000)
    torch.testing.assert_close(noise, (images - MEAN) / SPREAD, atol=0.05, rtol=0)
    torch.testing.assert_close(ddim_samples(exact(schedule), schedule, noise, 1000), images, atol=0.02, rtol=0)


def test_variations_of_no_way_are_the_image_and_of_the_whole_way_forget_it():
    schedule = double(cosine_schedule(300))
    images = MEAN + SPREAD * normal(20_000)
    assert torch.equal(variations(exact(schedule), schedule, images, 0, seeded()), images)
    whole = variations(exact(schedule), schedule, images, 300, seeded(1))
    half = variations(exact(schedule), schedule, images, 150, seeded(2))
    assert abs(float(torch.corrcoef(torch.stack([images, whole]))[0, 1])) < 0.03
    assert 0.03 < float(torch.corrcoef(torch.stack([images, half]))[0, 1]) < 0.9
    for found in (whole, half):  # both are samples of the same Gaussian
        assert float(found.mean()) == pytest.approx(MEAN, abs=0.02)
        assert float(found.std()) == pytest.approx(SPREAD, rel=0.03)


def test_guidance_by_a_constant_classifier_changes_nothing():
    schedule = cosine_schedule(20)
    model, classifier = Denoiser(schedule, 8, 16), NoisyClassifier(schedule, 8, 16, classes=10)
    torch.nn.init.zeros_(classifier.network[0].weight)
    labels, noise = torch.tensor([1, 2, 3]), torch.randn(3, 8, 8)
    steered = guided(model, schedule, lambda x, t: classifier.log_probability(x, t, labels), 5.0)
    torch.testing.assert_close(
        ddim_samples(steered, schedule, noise, 10), ddim_samples(model, schedule, noise, 10), rtol=0, atol=0
    )


def test_guidance_is_bayes_rule_for_gaussians():
    """p(x) = N(0, 1) and p(y | x) ∝ N(y; x, 1) give p(x | y) = N(y/2, ½); p(y | x_t) is a Gaussian in x_t, too."""
    schedule, y = double(cosine_schedule(400)), 2.0

    def log_probability(x, t):
        kept = schedule.alpha_bar[t]  # x | x_t ~ N(√ᾱ x_t, 1 − ᾱ), so y | x_t ~ N(√ᾱ x_t, 2 − ᾱ)
        return Normal(kept.sqrt() * x, (2 - kept).sqrt()).log_prob(torch.tensor(y))

    noise_of = guided(exact(schedule, 0.0, 1.0), schedule, log_probability, 1.0)
    found = ancestral_samples(noise_of, schedule, normal(40_000), seeded(1))
    assert float(found.mean()) == pytest.approx(y / 2, abs=0.02)
    assert float(found.var()) == pytest.approx(0.5, rel=0.04)


def test_guidance_works_where_gradients_are_off_and_leaves_none_behind():
    schedule = cosine_schedule(10)
    classifier = NoisyClassifier(schedule, 8, 16, classes=3)
    labels = torch.tensor([0, 2])
    with torch.no_grad():
        steered = guided(
            Denoiser(schedule, 8, 16), schedule, lambda x, t: classifier.log_probability(x, t, labels), 2.0
        )
        found = steered(torch.randn(2, 8, 8), torch.tensor([3, 4]))
    assert not found.requires_grad
    assert all(p.grad is None for p in classifier.parameters())


def test_the_loss_of_the_exact_predictor_is_the_noise_that_cannot_be_known():
    """E |ε − E[ε | x_t]|² = the variance of ε given x_t, which is ᾱ s²/(ᾱ s² + 1 − ᾱ), the mean over t."""
    schedule = double(linear_schedule(25))
    images = MEAN + SPREAD * normal(200_000)
    kept = schedule.alpha_bar[1:] * SPREAD**2
    expected = float((kept / (kept + 1 - schedule.alpha_bar[1:])).mean())
    assert float(denoising_loss(exact(schedule), schedule, images, seeded(1))) == pytest.approx(expected, rel=0.01)


def test_a_denoiser_whose_network_knows_v_knows_the_noise():
    schedule = cosine_schedule(50)
    model, images, noise = Denoiser(schedule, 4, 8), torch.randn(6, 4, 4), torch.randn(6, 4, 4)
    t = torch.tensor([1, 10, 20, 30, 40, 50])
    kept = schedule.alpha_bar[t].view(-1, 1, 1)
    v = kept.sqrt() * noise - (1 - kept).sqrt() * images

    class Knows(torch.nn.Module):
        def forward(self, inputs):
            assert inputs.shape == (6, 16 + 12)
            return v.flatten(1)

    model.network = Knows()
    torch.testing.assert_close(model(schedule.noised(images, t, noise), t), noise, atol=1e-5, rtol=1e-5)


def test_bad_input_is_refused_in_a_sentence():
    for betas in ([0.1, 1.0], [0.0, 0.5], [-0.1], [float("nan")], []):
        with pytest.raises(InputError, match="each between 0 and 1"):
            NoiseSchedule(torch.tensor(betas))
    with pytest.raises(InputError, match="more than 20 steps, got 20"):
        linear_schedule(20)
    with pytest.raises(InputError, match="at least one step, got 0"):
        cosine_schedule(0)
    schedule = cosine_schedule(10)
    model, images = Denoiser(schedule, 8, 16), torch.zeros(2, 8, 8)
    for t in (torch.tensor([0, 11]), torch.tensor([-1, 3]), torch.tensor([0.5, 1.0])):
        with pytest.raises(InputError, match="timesteps from 0 to 10"):
            schedule.noised(images, t, images)
        with pytest.raises(InputError, match="timesteps from 0 to 10"):
            model(images, t)
    with pytest.raises(InputError, match=r"expects images \(n, 8, 8\), got \(2, 9, 8\)"):
        model(torch.zeros(2, 9, 8), torch.tensor([1, 1]))
    with pytest.raises(InputError, match=r"NoisyClassifier expects images"):
        NoisyClassifier(schedule, 8, 16, 10)(torch.zeros(8, 8), torch.tensor([1]))
    with pytest.raises(InputError, match="timesteps from 0 to 10"):
        ancestral_samples(model, schedule, images, seeded(), start=11)
    for steps in (0, 11):
        with pytest.raises(InputError, match="whole number from 1 to 10"):
            ddim_samples(model, schedule, images, steps)
    with pytest.raises(InputError, match="whole number from 1 to 4, got 5"):
        ddim_samples(model, schedule, images, 5, start=4)


def test_a_classifier_of_noisy_images_learns_from_one_half_that_is_clean():
    """The loss is the cross-entropy of exactly the images and timesteps that the classifier was shown."""
    shown = []

    class Recording(NoisyClassifier):
        def forward(self, x, t):
            shown.append((x, t))
            return super().forward(x, t)

    classifier, images = Recording(cosine_schedule(20), 8, 16, classes=3), torch.rand(9, 8, 8)
    labels, generator = torch.arange(9) % 3, torch.Generator().manual_seed(0)
    loss = noisy_classification_loss(classifier, images, labels, generator)
    ((x, t),) = shown
    assert t[:4].tolist() == [0] * 4
    assert bool((t[4:] > 0).all())
    torch.testing.assert_close(x[:4], images[:4])
    assert not torch.isclose(x[4:], images[4:]).all((1, 2)).any()
    torch.testing.assert_close(loss, -classifier.log_probability(x, t, labels).mean())
