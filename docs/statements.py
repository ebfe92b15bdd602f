"""Write docs/statements.md: what five texts say about attention and its neighbors, and what came of it.

    python docs/statements.py

Each statement is quoted in a few words. Its verdicts and their sentences come from docs/findings.json, which
docs/verdicts.py writes from stored results. A statement without a claim says why it has none.
"""

import json
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PAGE, FINDINGS = HERE / "statements.md", HERE / "findings.json"


@dataclass(frozen=True)
class Statement:
    """A few words of a text, the claims that put them on trial, and what else has to be said."""

    words: str
    claims: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Text:
    """A text whose statements are on trial."""

    title: str
    statements: tuple[Statement, ...]


TEXTS = (
    Text(
        "hayAbhay, a dataset of five slopes (a post on Reddit)",
        (
            Statement("“[ReLU networks cover] all observed data points … through a combination of planes”", ("slopes",)),
            Statement("“a ‘division of labor’ … lets the linear functions stay as-is while the attention layer toggles between them”", ("slopes",)),
            Statement("“the weights exhibit a ‘picking’ or when softer, ‘mixing’ behavior”", ("free_energy_phases",)),
        ),
    ),
    Text(
        "Attention: General Deep Learning Idea (a course on the web)",
        (
            Statement("“One might wonder if attention mechanisms are equivalent to fully connected layers. The answer is no … how importance weights are assigned to inputs”", ("dynamic_weights",)),
            Statement("“No inductive bias in either case”", ("translation_prior",)),
            Statement("“How can one discern which inputs wield more influence on particular outcomes?”", ("dynamic_weights", "attention_and_ablation")),
        ),
    ),
    Text(
        "Ruan & Zhang 2024, Towards understanding how attention mechanism works in deep learning (2412.18288), and works listed beside it",
        (
            Statement("“the self-attention mechanism … adheres to the same principles [as manifold learning and clustering] but operates more flexibly”", ("same_operator",)),
            Statement("“converges to a drift-diffusion process”", ("drift_diffusion", "singer_rates")),
            Statement("“could be transformed into a heat equation under a new metric”", ("conformal_metric",)),
            Statement("“a first-order analysis of attention mechanism with a general pseudo-metric function”", ("minimizer_step",)),
            Statement("“[metric-attention] outperforms self-attention regarding training efficiency, accuracy, and robustness”", ("metric_attention", "attention_on_graphs", "attention_on_shapes", "attention_in_translation"), "graphs, bodies and sentences are generated, and stand in for Cora, scanned bodies and Multi30k"),
            Statement("“a doubly-normalized attention scheme … [avoids] the ‘explaining away’ effect”", ("explaining_away",)),
            Statement("“a relevancy screening mechanism … allows for a scalable use of sparse self-attention with recurrence”", ("relevancy_screening",)),
            Statement("“active-memory mechanisms alone outperform both self-attention and a combination of the two [in some tasks]”", ("active_memory",)),
            Statement("“‘cosine binding’ … explicitly computes the alignment between features and adjusts weights accordingly”", ("binding_by_alignment",)),
            Statement("the other works of the list", (), "have [no attention in them](not-here.md)"),
        ),
    ),
    Text(
        "A discussion of self-attention and inductive bias (thisiszilff, candiodari and others)",
        (
            Statement("“a cup is going to be a cup even if it is 10 pixels up or 10 pixels down”", ("translation_prior", "translation_prior_clothes")),
            Statement("“relative location might be important for the answer”", ("word_order",)),
            Statement("“there shouldn't be much difference between ‘Today the dog went to the park’ and ‘The dog went to the park today’”", ("word_order",)),
            Statement("“fully-connected layers can emulate similar behavior, but training them to do that isn't easy”", ("emulating_attention",)),
            Statement("“a model that is aware of this symmetry only has half as much data to look at”", ("symmetry",)),
            Statement("“assuming symmetries works pretty well even if the assumption is wrong”", ("symmetry",)),
            Statement("“a model with less data will generalize more”", (), "not tested: less data gave less accuracy wherever it was varied (`translation_prior`, `symmetry`), and what else is meant is not said"),
        ),
    ),
    Text(
        "daulet, Neural Net Intuition (a repository on GitHub)",
        (
            Statement("attention “could learn to extract image background, or conversely highlight the subject”", ("subject_of_picture", "subject_of_scene", "presence_to_detection"), "the last one is of a single query that pools; the first is of a large trained model, whose weights a package ships, and the second of a small one that stands in for it"),
            Statement("“Attention is a similarity search … We calculate cosine similarity of the query and corresponding key”", ("similarity_search",)),
            Statement("batch norm “account[s] for distribution shift between training and evaluation data”", ("batch_norm_shift",)),
            Statement("“Hierarchy of convolution layers can learn to extract … curve → semicircle → a letter”", ("convolution_hierarchy",)),
            Statement("embedding: “intermediate representation across different modalities … between image and its text description”", ("shared_embedding",)),
            Statement("“Residual connections help with knowledge preservation … and vanishing gradient problem”", ("residual_depth",)),
            Statement("a larger network “might memorize training dataset instead of extracting useful patterns”", ("memorization",)),
            Statement("“start with the smallest network that learns”", ("memorization",)),
            Statement("“Position embedding allows parallel processing of input sequence”", ("transformer_parts", "word_order")),
            Statement("the feed forward layer is there “to build connections that attention layer couldn't”", ("transformer_parts",)),
            Statement("“multi-headed attention of Encoder extracts multiple attention relationships”", ("transformer_parts",)),
            Statement("“masked attention enables self-supervised training”", ("transformer_parts",)),
            Statement("the encoder's focus “keep[s] the output faithful”", ("transformer_parts", "faithful_translation")),
            Statement("“Autoencoders cannot be used for data generation”", ("autoencoders_and_generation",)),
            Statement("autoencoders: “image reconstruction, noise removal”", ("autoencoders_and_generation",)),
            Statement("diffusion “could be used to generate variations of the same input”", ("autoencoders_and_generation",)),
            Statement("“Presence → Detection”: activations of a classifier give a bounding box", ("presence_to_detection",)),
            Statement("“Classifier → Example Generator”", ("classifier_generator",)),
        ),
    ),
)  # fmt: skip

HEAD = """# Every statement, and what came of it

Limelight began with five texts about attention and its neighbors. Each of their statements is here in a few words, with the
verdict of the claim that puts it on trial, and one sentence on what was found. `python docs/statements.py` writes this page from
the stored verdicts; [the claims](claims.md) have the thresholds, intervals and controls.
"""


def page(found):
    """The whole page, from the outcome and the finding of each claim."""
    parts, told = [HEAD], set()
    for text in TEXTS:
        rows = [row(statement, found, told) for statement in text.statements]
        parts.append(
            f"## {text.title}\n\n| statement | verdict | what was found |\n|---|---|---|\n" + "\n".join(rows) + "\n"
        )
    parts.append(others(found))
    return "\n".join(parts)


def row(statement, found, told):
    """A statement with its verdicts, and the sentence of each claim that has not been `told` on the page before."""
    verdicts = "<br>".join(link(name, found) for name in statement.claims) or "none"
    new = [name for name in statement.claims if name not in told]
    told.update(new)
    sentences = [found[name]["finding"] for name in new] or ["See above."] * bool(statement.claims)
    note = [statement.note[0].upper() + statement.note[1:] + "."] if statement.note else []
    return f"| {statement.words} | {verdicts} | {' '.join([*sentences, *note])} |"


def link(name, found):
    outcome = found[name]["outcome"]
    return f"[{outcome}](claims.md#{name}-{outcome}) (`{name}`)"


def others(found):
    """The claims that none of the five texts has asked for."""
    asked = {name for text in TEXTS for statement in text.statements for name in statement.claims}
    rows = [f"| {link(name, found)} | {each['finding']} |" for name, each in found.items() if name not in asked]
    return (
        "## Claims from elsewhere\n\nTheir sources are named in the report.\n\n| verdict | what was found |\n|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(FINDINGS.read_text(encoding="utf-8"))), encoding="utf-8")
