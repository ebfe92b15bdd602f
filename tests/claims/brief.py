"""Claims that train or simulate for seconds, cut short: the same code with fewer steps, points or keys.

Where a test asks whether a claim runs, measures and draws, this is as good as the whole.
"""

from functools import cache

from limelight.claims import (
    active_memory,
    attention_and_ablation,
    attention_in_translation,
    attention_on_graphs,
    attention_on_shapes,
    batch_norm_shift,
    binding_by_alignment,
    convolution_hierarchy,
    drift_to_doubly_stochastic,
    emulating_attention,
    explaining_away,
    faithful_translation,
    free_energy_phases,
    induction_heads,
    lipschitz,
    memorization,
    presence_to_detection,
    pseudo_metric_far_from_metric,
    relevancy_screening,
    residual_depth,
    shared_embedding,
    similarity_search,
    sinks_by_key_norms,
    slopes,
    subject_of_picture,
    subject_of_scene,
    symmetry,
    token_clusters,
    tokens_cluster_with_depth,
    transformer_parts,
    translation_prior,
    word_order,
)
from limelight.data import fashion_mnist
from limelight.experiment import catalog
from limelight.models import digit_training


@cache
def tiny_language_model():
    """A random model in place of the trained one, which is in a package that is not installed everywhere."""
    from tests.huggingface import tiny

    return tiny.model("llama", "sdpa")


@cache
def tiny_encoder():
    import torch
    import transformers

    from tests.huggingface.tiny import WIDE
    from tests.microscope import folders

    torch.manual_seed(0)
    return transformers.BertModel(transformers.BertConfig(**WIDE)).eval(), folders.word_piece()


@cache
def tiny_reader(name):
    """A tiny random Llama or BERT, which read the same few pieces of words."""
    from limelight.models.readers import ENCODER, Reader
    from tests.microscope import folders

    if name == ENCODER:
        return Reader(*tiny_encoder())
    tokenizer = folders.word_piece()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return Reader(tiny_language_model(), tokenizer)


@cache
def tiny_vision_transformer():
    """A random DINOv2 of two layers of two heads."""
    import torch
    import transformers

    size = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "image_size": 56, "patch_size": 14}
    torch.manual_seed(0)
    model = transformers.Dinov2Model(transformers.Dinov2Config(**size))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval().requires_grad_(False)


def white_rectangle(drawings, seed):
    """A white rectangle in front of noise, in place of drawings and photographs, which are not installed everywhere."""
    import torch

    from limelight.data.pasted_objects import SIDE, paste

    noise = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) / 2
    return paste(noise, torch.ones(4, 100, 120), 40 + seed % 50, 60)


class Words:
    """A tokenizer that gives each word a number by its length."""

    def encode(self, text):
        from types import SimpleNamespace

        return SimpleNamespace(ids=[1 + len(word) % 30 for word in text.split()])


@cache
def tiny_translator():
    """A random translator of one layer each, and a tokenizer of thirty words."""
    from limelight.models.marian import MarianTranslator
    from tests.models.marian_files import random_weights

    return MarianTranslator(random_weights(encoder=1, decoder=1), encoder=1, decoder=1, heads=2), Words()


def random_clothes(train, test, side, generator):
    """Random images in place of Fashion-MNIST, which is not everywhere."""
    import torch

    return tuple(
        (torch.rand(n, side, side, generator=generator), torch.randint(10, (n,), generator=generator))
        for n in (train, test)
    )


def anew(function):
    """A cached function of a module with an empty cache."""
    return cache(function.__wrapped__)


FEW_STEPS = {"MODELS": {arm: (build, 5) for arm, (build, _) in translation_prior.MODELS.items()}}
FEWER = {
    "slopes": (slopes, {"STEPS": 50, "LATE": 20, "RUNS": 2}),
    "explaining_away": (explaining_away, {"STEPS": 20, "TEST": 100}),
    "translation_prior": (translation_prior, FEW_STEPS),
    "translation_prior_clothes": (translation_prior, FEW_STEPS),
    "similarity_search": (similarity_search, {"STEPS": 40, "TEST": 200}),
    "active_memory": (active_memory, {"STEPS": 20, "TEXT_STEPS": 10, "TEXT_TEST": 20}),
    "binding_by_alignment": (binding_by_alignment, {"STEPS": 20, "SETTLING": 10, "TEST": 10}),
    "relevancy_screening": (relevancy_screening, {"STEPS": 11, "RUNS": 2, "TEST": 20, "AT": (50, 100)}),
    "autoencoders_and_generation": (
        digit_training,
        {"CODED": ((20, 0.003),), "DIFFUSION": ((20, 0.002),)},
    ),
    "classifier_generator": (
        digit_training,
        {"CLASSIFIER": ((20, 0.002),), "DIFFUSION": ((20, 0.002),), "GAN_STEPS": 20},
    ),
    "token_clusters": (token_clusters, {"STEP": 0.5}),
    "free_energy_phases": (
        free_energy_phases,
        {"KEYS": {arm: 64 * 2**i for i, arm in enumerate(free_energy_phases.KEYS)}},
    ),
    "lipschitz": (lipschitz, {"CLOUDS": 10}),
    "presence_to_detection": (
        presence_to_detection,
        {
            "NETWORKS": {arm: (build, 5, maps) for arm, (build, _, maps) in presence_to_detection.NETWORKS.items()},
            "TEST": 50,
        },
    ),
    "symmetry": (symmetry, {"STEPS": 5}),
    "residual_depth": (residual_depth, {"STEPS": 2}),
    "batch_norm_shift": (batch_norm_shift, {"STEPS": 5}),
    "convolution_hierarchy": (convolution_hierarchy, {"STEPS": 5, "TEST": 200}),
    "emulating_attention": (emulating_attention, {"STEPS": 50, "TEST": 100, "HELD_OUT": 100}),
    "shared_embedding": (shared_embedding, {"STEPS": 5, "GALLERIES": 1}),
    "memorization": (memorization, {"STEPS": 5}),
    "induction_heads": (
        induction_heads,
        {
            "language_model": tiny_language_model, "scope": anew(induction_heads.scope),
            "scores": anew(induction_heads.scores), "HALF": 8, "COPIED": slice(8, None), "LEAST": 3, "MOST": 64,
            "HEADS": 1, "OTHER": 2.0,
        },
    ),
    "attention_and_ablation": (
        attention_and_ablation,
        {"sentence_encoder": tiny_encoder, "studied": anew(attention_and_ablation.studied), "FOREMOST": 2},
    ),
    "attention_on_graphs": (attention_on_graphs, {"STEPS": 20}),
    "attention_on_shapes": (attention_on_shapes, {"STEPS": 12, "PAPER_STEPS": 12, "TRAIN": 8, "TEST": 4}),
    "attention_in_translation": (attention_in_translation, {"TRAIN": 200, "TEST": 40, "EPOCHS": 2}),
    "pseudo_metric_far_from_metric": (
        pseudo_metric_far_from_metric,
        {
            "reader": tiny_reader,
            "maps": anew(pseudo_metric_far_from_metric.maps),
            "entering": anew(pseudo_metric_far_from_metric.entering),
        },
    ),
    "sinks_by_key_norms": (
        sinks_by_key_norms,
        {"reader": tiny_reader, "studied": anew(sinks_by_key_norms.studied), "SINK": 0.0},
    ),
    "tokens_cluster_with_depth": (
        tokens_cluster_with_depth,
        {"reader": tiny_reader, "states_of": anew(tokens_cluster_with_depth.states_of)},
    ),
    "drift_to_doubly_stochastic": (
        drift_to_doubly_stochastic,
        {
            "reader": tiny_reader,
            "of_encoder": anew(drift_to_doubly_stochastic.of_encoder),
            "AT": (0, 3, 5),
            "TEST": 100,
        },
    ),
    "faithful_translation": (
        faithful_translation,
        {
            "english_to_portuguese": tiny_translator, "encoded": anew(faithful_translation.encoded),
            "translated": anew(faithful_translation.translated), "LONGEST": 1,
        },
    ),
    "subject_of_picture": (
        subject_of_picture,
        {
            "vision_transformer": tiny_vision_transformer, "pasted": white_rectangle, "fingerprint": str,
            "network": anew(subject_of_picture.network), "seen_by": anew(subject_of_picture.seen_by),
            "CHOSEN": dict.fromkeys(subject_of_picture.CHOSEN, subject_of_picture.Choice(0, 0.5)),
        },
    ),
    "subject_of_scene": (
        subject_of_scene,
        {
            "STEPS": 5, "TEST": 20, "scenes_of": anew(subject_of_scene.scenes_of),
            "trained": anew(subject_of_scene.trained),
        },
    ),
    "transformer_parts": (transformer_parts, {"STEPS": 20, "TEST": 50}),
    "word_order": (word_order, {"ORDER_STEPS": 20, "DISTANCE_STEPS": 20, "TEST": 100}),
}  # fmt: skip


def cut_short(name, monkeypatch):
    """The claim, which from now on takes less than a second for each arm."""
    module, settings = FEWER.get(name, (None, {}))
    for setting, value in settings.items():
        monkeypatch.setattr(module, setting, value)
    if name == "translation_prior_clothes":
        monkeypatch.setattr(fashion_mnist, "split", random_clothes)
    return catalog.claim(name)
