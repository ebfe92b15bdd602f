"""A shared embedding: nothing of an unseen pair is trained on, and what is found is counted rightly."""

import pytest
import torch

from limelight.claims import shared_embedding as claim
from limelight.data.described_digits import all_scenes, sentence
from limelight.data.digits import split

CLAIM = claim.SharedEmbedding()


def seeded(seed=1000):
    return torch.Generator().manual_seed(seed)


class Oracle(claim.Model):
    """It knows the scene of each image of a gallery by its place, but for the last `wrong` ones."""

    def __init__(self, wrong=0):
        super().__init__()
        self.wrong = wrong

    def scores(self, images, scenes, texts):
        scores = torch.eye(len(scenes))
        scores[len(scenes) - self.wrong :] = scores[len(scenes) - self.wrong :].roll(1, 1)
        return scores


@pytest.fixture(scope="module")
def one_gallery():
    generator = seeded()
    return claim.gallery(split(claim.TRAIN, claim.TEST, generator)[1], generator)


def test_a_gallery_shows_and_describes_every_scene(one_gallery):
    images, scenes, texts = one_gallery
    assert images.shape == (180, 16, 16)
    assert torch.equal(scenes, all_scenes())
    for scene, words in zip(scenes, texts, strict=True):
        assert {int(words[0]), int(words[2])} == set(scene[:2].tolist())
        assert (" of " in sentence(words)) == (int(scene[2]) == 0)


def test_recall_is_that_of_the_scenes_asked_for_among_all(one_gallery):
    last = all_scenes()[-10:]
    assert claim.recall_both_ways(Oracle(), [one_gallery], last) == (1.0, 1.0)
    assert claim.recall_both_ways(Oracle(wrong=4), [one_gallery], last)[0] == pytest.approx(0.6)
    assert claim.recall_both_ways(Oracle(wrong=4), [one_gallery], all_scenes()[:10]) == (1.0, 1.0)


def test_each_way_of_the_recall_has_its_own_number(one_gallery):
    class Fond(Oracle):
        """The last four images like the last description most, yet each description finds its image."""

        def scores(self, images, scenes, texts):
            scores = torch.eye(len(scenes))
            scores[-4:, -1] += 2
            return scores

    texts, images = claim.recall_both_ways(Fond(), [one_gallery], all_scenes()[-10:])
    assert texts == pytest.approx(0.7)
    assert images == 1.0


def test_places_are_those_among_all_scenes():
    chosen = torch.tensor([5, 170, 0])
    assert claim.indices_of(all_scenes()[chosen]).tolist() == chosen.tolist()


def test_pictures_show_what_was_answered(one_gallery):
    asked = all_scenes()[-3:]
    told = claim.retrieved_examples(Oracle(wrong=2), one_gallery, asked)
    assert told["said right"].tolist() == [1, 0, 0]
    assert told["said words"].tolist() == one_gallery[2][[-3, -1, 0]].tolist()
    assert torch.equal(torch.tensor(told["said images"]), one_gallery[0][-3:])
    assert told["asked words"].tolist() == one_gallery[2][-3:].tolist()


def test_without_positions_the_order_of_words_makes_no_difference():
    torch.manual_seed(0)
    text, turned = torch.tensor([[3, 10, 7]]), torch.tensor([[7, 10, 3]])
    for arm, alike in ((claim.NO_ORDER, True), (claim.TOWERS, False)):
        towers = claim.ARMS[arm]().towers
        vectors = towers.embed_texts(text), towers.embed_texts(turned)
        assert torch.allclose(*vectors, atol=1e-5) is alike


def test_the_temperature_of_1_stays(one_gallery):
    model = claim.ARMS[claim.WARM]()
    assert float(model.towers.log_sharpness) == 0
    assert not model.towers.log_sharpness.requires_grad


def test_three_classifiers_score_a_scene_by_its_parts(one_gallery):
    torch.manual_seed(0)
    model, (images, scenes, texts) = claim.ARMS[claim.CLASSIFIERS](), one_gallery
    first, second, layout = model.network(images[:1]).split([10, 10, 2], 1)
    expected = first.log_softmax(1)[0, 3] + second.log_softmax(1)[0, 7] + layout.log_softmax(1)[0, 1]
    torch.testing.assert_close(model.scores(images[:1], torch.tensor([[3, 7, 1]]), texts)[0, 0], expected)
    right = torch.stack([model.scores(images, scenes, texts)[i, i] for i in range(len(scenes))])
    torch.testing.assert_close(model.loss(images, scenes, texts), -right.mean())


def test_training_shows_seen_pairs_with_their_own_words_and_the_control_with_those_of_others(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 3)
    shown = []

    class Spy(claim.Towers):
        def loss(self, images, scenes, texts):
            shown.append((scenes, texts))
            return super().loss(images, scenes, texts)

    for arm, own in ((claim.TOWERS, True), (claim.SHUFFLED, False)):
        shown.clear()
        monkeypatch.setitem(claim.ARMS, arm, Spy)
        CLAIM.measure_at(arm, 0.003, 1000)
        generator = seeded()
        split(claim.TRAIN, claim.TEST, generator)
        unseen = {frozenset(row[:2]) for row in claim.split_scenes(claim.HELD_OUT, generator)[1].tolist()}
        scenes, texts = (torch.cat(part) for part in zip(*shown, strict=True))
        assert len(scenes) == 3 * claim.BATCH
        assert not {frozenset(row[:2]) for row in scenes.tolist()} & unseen
        match = (scenes[:, :2].sort(1).values == texts[:, ::2].sort(1).values).all(1)
        assert bool(match.all()) is own
