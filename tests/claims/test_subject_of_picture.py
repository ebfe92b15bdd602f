"""The claim about the subject of a picture: its maps are those of the network, and the best of them is chosen."""

import pytest
import torch

from limelight.claims import subject_of_picture as claim
from tests.claims.brief import cut_short, tiny_vision_transformer, white_rectangle

SEED = 4242


@pytest.fixture
def brief(monkeypatch):
    pytest.importorskip("transformers")
    cut_short("subject_of_picture", monkeypatch)
    return monkeypatch


def of_network(pixels):
    """The class token's attention to patches in each layer, and the keys, computed from the projections by hand."""
    model, found = tiny_vision_transformer(), []
    hooks = [
        block.norm1.register_forward_hook(lambda own, args, out, block=block: found.append((block.attention, out[0])))
        for block in model.encoder.layer
    ]
    model(pixels)
    for hook in hooks:
        hook.remove()
    for attention, x in found:
        named = dict(attention.named_modules())
        to = [next(named[n] for n in named if n.endswith(ends)) for ends in (("q_proj", "query"), ("k_proj", "key"))]
        q, k = (p(x).unflatten(-1, (2, 8)).transpose(0, 1) for p in to)
        yield q, k, (q @ k.mT / 8**0.5).softmax(-1)


def test_maps_are_those_of_the_class_token(brief):
    seen = claim.seen_by("trained", claim.JUDGED, SEED)
    pixels = claim.normalized(white_rectangle(claim.JUDGED, SEED))
    for layer, (q, k, P) in enumerate(of_network(pixels)):
        torch.testing.assert_close(seen.attention[layer].flatten(1), P[:, 0, 1:], atol=1e-5, rtol=1e-4)
        lengths = k.norm(dim=-1, keepdim=True)
        torch.testing.assert_close(seen.lengths[layer].flatten(1), lengths[:, 1:, 0], atol=1e-5, rtol=1e-4)
        even = (q[:, :1] @ (k / lengths * lengths.mean(1, keepdim=True)).mT / 8**0.5).softmax(-1)
        torch.testing.assert_close(seen.equal[layer].flatten(1), even[:, 0, 1:], atol=1e-5, rtol=1e-4)
    every = claim.maps_of(claim.HEAD, claim.JUDGED, SEED)
    assert torch.equal(every[3], seen.attention[1, 1])
    torch.testing.assert_close(claim.maps_of(claim.LAST, claim.JUDGED, SEED)[0], seen.attention[1].mean(0))
    short = claim.maps_of(claim.LENGTHS, claim.JUDGED, SEED)
    torch.testing.assert_close(short[:4] * short[4:], torch.ones(4, 24, 24))
    for arm in (claim.UNTRAINED, claim.SIZE):
        assert not torch.allclose(claim.maps_of(arm, claim.JUDGED, SEED), every)


def test_the_gradient_is_that_of_the_class_token(brief):
    model, pixels = tiny_vision_transformer(), claim.normalized(white_rectangle(claim.JUDGED, SEED))
    found = claim.gradient_by_input(model, pixels, 24)
    inputs = pixels.clone().requires_grad_()
    state = model(inputs, output_hidden_states=True).hidden_states[-1][0, 0]
    (gradient,) = torch.autograd.grad(state.square().sum() / 2, inputs)
    right = (gradient * pixels).abs().sum(1)[0, 14:28, 28:42].mean()
    torch.testing.assert_close(found[1, 2], right)


def test_maps_without_a_network():
    colors = torch.tensor([[[0.0, 0.0], [0.0, 1.0]]]).expand(3, 2, 2)
    torch.testing.assert_close(claim.color_difference(colors), torch.tensor([[1, 1], [1, 3]]) * 3**0.5 / 4)
    side = 1 - 0.5**0.5
    right = torch.tensor([[0.0, side, 0.0], [side, 1.0, side], [0.0, side, 0.0]])
    torch.testing.assert_close(claim.nearness_to_middle(3, 3), right)
    picture = white_rectangle("", 0)
    covered = claim.share_of_patches(picture, (24, 24))
    assert covered.sum().item() == pytest.approx(100 * 120 / 14**2, rel=1e-5)
    assert covered[5, 7] == 1


def test_the_best_map_and_its_share_are_chosen(brief):
    """Of five maps the fourth is the subject above 0.62 of its height, and the second leaves the subject out."""

    def maps(arm, drawings, seed):
        covered = claim.share_of_patches(white_rectangle(drawings, seed), (24, 24))
        noise = torch.rand(5, 24, 24, generator=torch.Generator().manual_seed(seed))
        return torch.stack([noise[0], 1.01 - covered, noise[2], 2 * covered + 1.24 * noise[3], noise[4]])

    brief.setattr(claim, "maps_of", maps)
    found = claim.chosen(claim.HEAD, range(3))
    assert found.map == 3
    assert 0.4 <= found.share <= 0.7
    assert claim.chosen(claim.BACKGROUND, range(3)).map == 1


@pytest.mark.slow
@pytest.mark.parametrize("arm", [claim.COLOR, claim.MIDDLE, claim.LAST, claim.BACKGROUND, claim.HEAD])
def test_choices_are_the_best_on_other_pictures(arm):
    if problem := claim.SubjectOfPicture().missing():
        pytest.skip(problem)
    assert claim.chosen(arm) == claim.CHOSEN[arm]
