"""The settings of the page of the microscope. Heads and tokens are those of the model and the text: the worker lists them."""

from __future__ import annotations

from limelight.lab.address import Choice, Field, Listed, Number, Text
from limelight.models.shipped import LANGUAGE_MODEL, SENTENCE_ENCODER, Shipped

MOST_TOKENS = 256
MOST_CHARACTERS = 800
TEXT = "The cat sat on the mat. The dog sat on the rug. The c"
STRONGEST, LAST = "strongest", "last"

PACKAGES = {"smollm2": LANGUAGE_MODEL, "minilm": SENTENCE_ENCODER}


def _offered(label: str, package: Shipped) -> str:
    return f"{label}{' (not installed)' if package.missing() else ''}"


MODELS = {
    "built": "built by hand: a language model of bytes",
    "both-ways": "built by hand: the same, reading both ways",
    "smollm2": _offered("SmolLM2-135M, a language model", LANGUAGE_MODEL),
    "minilm": _offered("MiniLM-L6, a sentence encoder", SENTENCE_ENCODER),
}
MEASURES = {
    "entropy": "entropy, in nats",
    "effective_keys": "keys over which it spreads",
    "first_token": "weight on the first token",
    "learned_sink": "share of a learned sink",
    "separators": "weight on separators",
    "previous_token": "weight on the token before",
    "next_token": "weight on the token after",
    "same_token": "weight on the token itself",
    "induction": "induction: on what followed before",
    "duplicate_token": "weight on the same token earlier",
    "mean_distance": "mean distance, in tokens",
    "largest_key": "largest mass of a key",
    "least_mass": "least mass of a key",
    "key_norms": "scores explained by key norms",
    "temperature": "temperature, as 1/σ of the scores",
    "free_energy": "free energy below even weights, in nats",
    "agreement": "agreement with the layer’s heads",
    "symmetry": "symmetry of the scores",
    "detailed_balance": "detailed balance of a walk by the scores",
    "definiteness": "definiteness: do alike tokens attract",
    "triangle_defect": "triples that break the triangle inequality",
    "copying": "copying, from −1 to 1",
    "key_rank": "effective rank of the keys",
    "key_alignment": "how alike the keys’ directions are",
    "drift": "how far attention moves keys",
    "diffusion": "how different the keys are that a token reads",
    "spectral_gap": "spectral gap of a walk from token to token",
    "mixing_time": "steps until such a walk has forgotten its start",
}  # the names of `limelight.microscope.MEASURES`, which needs torch
ABLATIONS = {"no": "stays", "mean": "becomes its mean over the text", "zero": "becomes zero"}
SENTENCES = (
    "A cat sleeps on a warm roof.",
    "Dogs like to run after a ball.",
    "The train to the city was late again.",
    "She baked bread and a cake with apples.",
    "The stock market fell sharply today.",
    "It will rain in the mountains tomorrow.",
    "He fixed the error in the program.",
    "The orchestra played a slow waltz.",
)  # with which an encoder compares the text

FIELDS: tuple[Field, ...] = (
    Text("text", "Text to read", MOST_CHARACTERS, TEXT),
    Choice("model", "Model", MODELS, "built"),
    Listed("measure", "Measure that colors the heads", "induction"),
    Listed("head", "Head, by its layer and number", STRONGEST),
    Listed("token", "Token whose row is framed", LAST),
    Choice("where", "T and α are those of", {"head": "the chosen head", "all": "all heads"}, "head"),
    Number("temperature", "Temperature T", 0.1, 10, 1, 0.01, log=True),
    Number("alpha", "α, from softmax to doubly normalized", 0, 1, 0, 0.05),
    Choice("ablate", "Output of the chosen head", ABLATIONS, "no"),
)
