"""Autoencoders, the GAN and the judges: their equations, closed forms, and what they refuse."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from limelight import InputError
from limelight.data.digit_levels import as_scanned, bounded, unbounded
from limelight.data.digits import digits
from limelight.models import digit_generators as draws
from limelight.models.autoencoder import Autoencoder, DenoisingAutoencoder
from limelight.models.fresh import fresh
from limelight.models.gan import Discriminator, Generator, discriminator_loss, generator_loss, steering_loss
from limelight.models.judges import judge_accuracies
from limelight.models.training import descend
from limelight.models.variational_autoencoder import VariationalAutoencoder, kl_from_standard_normal


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_kl_divergence_is_that_of_torch():
    mean, log_variance = torch.randn(5, 3).double(), torch.randn(5, 3).double()
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(kl_from_standard_normal(mean, log_variance), expected)
    assert float(kl_from_standard_normal(torch.zeros(1, 4), torch.zeros(1, 4))) == 0


def test_the_elbo_is_below_the_likelihood_and_reaches_it_with_the_true_posterior():
    """A linear decoder of one pixel and one code, with the exact posterior: −ELBO is −log p(x), without constant."""
    noise, slope = 0.5, 0.8
    model = VariationalAutoencoder(1, 1, 1, noise)
    x = torch.full((100_000, 1, 1), 0.6)
    variance = 1 / (1 + slope**2 / noise**2)

    def posterior(images):
        flat = images.flatten(1)
        return flat * slope / noise**2 * variance, torch.full_like(flat, math.log(variance))

    model.posterior, model.decode = posterior, lambda codes: slope * codes[:, :, None]
    expected = -float(Normal(0.0, math.hypot(slope, noise)).log_prob(torch.tensor(0.6)))
    constant = math.log(noise * math.sqrt(2 * math.pi))
    assert float(model.loss(x, seeded())) + constant == pytest.approx(expected, abs=0.01)
    model.posterior = lambda images: (torch.zeros(100_000, 1), torch.zeros(100_000, 1))
    assert float(model.loss(x, seeded())) + constant > expected + 0.1


def test_codes_are_drawn_with_the_mean_and_variance_of_the_cloud():
    model = VariationalAutoencoder(2, 4, 1, 0.2)
    image = torch.rand(1, 2, 2)
    mean, log_variance = (part.detach() for part in model.posterior(image))
    codes = model.draw(image.expand(100_000, 2, 2), seeded()).detach()
    assert float(codes.mean()) == pytest.approx(float(mean), abs=0.02)
    assert float(codes.var()) == pytest.approx(float(log_variance.exp()), rel=0.03)
    torch.testing.assert_close(model(image), model.decode(mean))


def test_the_losses_of_the_autoencoders_are_their_equations():
    images = torch.rand(7, 4, 4)
    plain, denoising = Autoencoder(4, 8, 3), DenoisingAutoencoder(4, 8, 3, noise=0.5)
    torch.testing.assert_close(
        plain.loss(images, seeded()), (plain.decode(plain.encode(images)) - images).pow(2).mean()
    )
    noisy = images + 0.5 * torch.randn(7, 4, 4, generator=seeded(3))
    torch.testing.assert_close(denoising.loss(images, seeded(3)), (denoising(noisy) - images).pow(2).mean())
    assert denoising.loss(images, seeded(3)) != denoising.loss(images, seeded(4))


def test_an_autoencoder_learns_images_of_one_factor():
    shape = torch.rand(6, 6, generator=seeded())
    images = torch.linspace(0.1, 0.9, 40)[:, None, None] * shape
    model = fresh(lambda: Autoencoder(6, 16, 1), 0)
    losses = list(descend(model, lambda: model.loss(images, seeded()), 300, 0.01))
    assert losses[-1] < 0.02 * losses[0]


def test_the_losses_of_the_gan():
    real, fake = torch.tensor([2.0, -1.0]).double(), torch.tensor([0.5, -3.0]).double()
    expected = -(real.sigmoid().log().mean() + (1 - fake.sigmoid()).log().mean()) / 2
    torch.testing.assert_close(discriminator_loss(real, fake), expected)
    torch.testing.assert_close(generator_loss(fake), -fake.sigmoid().log().mean())
    scores, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(steering_loss(scores, labels), -scores.log_softmax(-1)[range(4), labels].mean())


def test_a_discriminator_sees_how_much_the_images_of_a_batch_differ():
    model, image = Discriminator(4, 8, blur=0.0), torch.rand(1, 4, 4)
    others = torch.rand(3, 4, 4)
    alone = model(torch.cat([image, image, image, image]), seeded())
    torch.testing.assert_close(alone, alone[:1].expand(4))
    assert (model(torch.cat([image, others]), seeded())[0] - alone[0]).abs() > 1e-3
    with pytest.raises(InputError, match="at least two, got 1"):
        model(image, seeded())


def test_a_classifier_can_steer_a_generator():
    """The classifier wants the first class bright and the second dark; without an adversary the generator obeys."""
    model = fresh(lambda: Generator(2, 16, 3, classes=2), 0)
    asked = torch.tensor([0, 1]).repeat(16)

    def loss():
        brightness = model(torch.randn(32, 3), asked).mean((1, 2))
        return steering_loss(torch.stack([brightness, -brightness], -1), asked)

    list(descend(model, loss, 200, 0.01))
    brightness = model(torch.randn(32, 3), asked).mean((1, 2))
    assert brightness[::2].min() > 0 > brightness[1::2].max()


def test_a_judge_recognizes_what_differs_and_only_guesses_where_nothing_does():
    images, _ = digits()
    order = torch.randperm(len(images), generator=seeded())
    first, second = images[order[:600]], images[order[600:1200]]
    same = judge_accuracies(first, second, 0)
    assert set(same) == {"logistic regression", "random forest", "small network"}
    assert all(0.4 < value < 0.6 for value in same.values())
    assert all(
        0.4 < value < 0.6 for value in judge_accuracies(first, second[second.mean((1, 2)).argsort()], 0).values()
    )
    pixels = second.flatten(1)
    alone = torch.stack([column[torch.randperm(600, generator=seeded(i))] for i, column in enumerate(pixels.T)], 1)
    random = judge_accuracies(first, alone.view(600, 8, 8), 0)
    assert random["logistic regression"] < 0.65  # every pixel by itself is as it should be
    assert random["random forest"] > 0.9
    assert all(value > 0.98 for value in judge_accuracies(first, torch.rand(600, 8, 8), 0).values())


def test_judging_draws_nothing_from_the_global_generator():
    state = torch.random.get_rng_state()
    images = torch.rand(20, 4, 4, generator=seeded())
    first = judge_accuracies(images[:10], images[10:], 1)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(5)
    assert judge_accuracies(images[:10], images[10:], 1) == first


def test_gray_values_go_there_and_back():
    images, _ = digits()
    assert torch.equal(bounded(unbounded(images)), images)
    assert torch.equal(as_scanned(images), images)
    values = unbounded(images)
    assert abs(float(values.mean())) < 0.15
    assert 0.8 < float(values.std()) < 1.2
    assert as_scanned(torch.tensor([-3.0, 0.03, 0.04, 7.0])).tolist() == [0.0, 0.0, 0.0625, 1.0]


def test_codes_have_the_distribution_that_was_fitted():
    generator = seeded()
    root = torch.randn(draws.LATENT, draws.LATENT, generator=generator)
    codes = 3 + torch.randn(50_000, draws.LATENT, generator=generator) @ root
    drawn = draws.gaussian_codes(codes)(50_000, generator)
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=0.1, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), codes.T.cov(), atol=0.5, rtol=0.05)
    centers = 10 * torch.randn(draws.COMPONENTS, draws.LATENT, generator=generator)
    near = centers.repeat(20, 1) + 0.1 * torch.randn(20 * draws.COMPONENTS, draws.LATENT, generator=generator)
    found = draws.mixture_codes(near, 0)(500, generator)
    assert torch.cdist(found, centers).amin(1).median() < 0.1 * torch.cdist(found, centers).median()


def test_principal_components_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    images = digits()[0][:300]
    expected = PCA(draws.LATENT).fit(images.flatten(1).double().numpy())
    seen = images.flatten(1).double().numpy()
    reconstructed = torch.tensor(expected.inverse_transform(expected.transform(seen))).float().view_as(images)
    found = draws.PrincipalComponents(images)
    torch.testing.assert_close(found.reconstruct(images), reconstructed, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        found.spread, torch.tensor(expected.explained_variance_).sqrt().float(), rtol=1e-3, atol=1e-4
    )


def test_real_images_are_drawn_without_repetition_and_random_pixels_one_by_one():
    images = torch.arange(5.0)[:, None, None].expand(5, 8, 8)
    real = draws.RealImages(images)
    assert sorted(real.draw(5, seeded())[:, 0, 0].tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="has 5 images, and cannot draw 6"):
        real.draw(6, seeded())
    noise = draws.NoiseImages(images, seeded()).draw(100, seeded())
    assert set(noise.flatten().tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert noise[0].std() > 0


def test_weights_depend_on_the_seed_alone():
    first = fresh(lambda: torch.nn.Linear(3, 2), 5).weight
    torch.rand(9)
    assert torch.equal(fresh(lambda: torch.nn.Linear(3, 2), 5).weight, first)
    assert not torch.equal(fresh(lambda: torch.nn.Linear(3, 2), 6).weight, first)


def test_bad_input_is_refused_in_a_sentence():
    wrong = torch.zeros(3, 8, 9)
    for model in (Autoencoder(8, 4, 2), DenoisingAutoencoder(8, 4, 2, 0.1), VariationalAutoencoder(8, 4, 2, 0.1)):
        with pytest.raises(InputError, match=r"Autoencoder expects images \(n, 8, 8\), got \(3, 8, 9\)"):
            model(wrong)
        with pytest.raises(InputError, match=r"expects codes \(n, 2\), got \(3, 4\)"):
            model.decode(torch.zeros(3, 4))
    for noise in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="expects a positive number"):
            DenoisingAutoencoder(8, 4, 2, noise)
        with pytest.raises(InputError, match="expects a positive number"):
            VariationalAutoencoder(8, 4, 2, noise)
    with pytest.raises(InputError, match="Discriminator expects images"):
        Discriminator(8, 4, 0.1)(wrong, seeded())
    generator = Generator(8, 4, 2, classes=10)
    with pytest.raises(InputError, match="3 labels from 0 to 9"):
        generator(torch.zeros(3, 2), torch.tensor([0, 1, 10]))
    with pytest.raises(InputError, match="3 labels from 0 to 9"):
        generator(torch.zeros(3, 2), torch.tensor([0, 1]))
    with pytest.raises(InputError, match=r"Generator expects codes \(n, 2\)"):
        generator(torch.zeros(3, 5), torch.tensor([0, 1, 2]))
    with pytest.raises(InputError, match="as many generated images"):
        judge_accuracies(torch.zeros(5, 8, 8), torch.zeros(4, 8, 8), 0)
    with pytest.raises(InputError, match="at least four"):
        judge_accuracies(torch.zeros(3, 8, 8), torch.zeros(3, 8, 8), 0)
