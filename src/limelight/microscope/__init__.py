"""What attention does inside a model: every head of it, measured while the model runs, and unchanged by it.

    with limelight.microscope.attach(model) as scope:
        model(**inputs)
    scope[3, 5]       # head 5 of layer 3: P_ij = exp(s_ij − L_i), an operator that is never stored
    scope.table()     # a row for each head: entropy, sinks, previous-token and induction scores, …

    with scope.intervene(Ablate([(3, 5)])):
        model(**inputs)   # what the model does without head 5 of layer 3

`attach` gives the model's own queries, keys, masks, position biases, caps and sinks; the model's attention still
computes its output. `MEASURES` are the columns of the table, and a `Measure` of your own takes one line.

Models of transformers need the extra `huggingface`; models of plain torch need nothing.
"""

from limelight.microscope.ablation_effect import ablation_effect
from limelight.microscope.attach import attach
from limelight.microscope.exports import for_bertviz
from limelight.microscope.head_inputs import HeadInputs
from limelight.microscope.head_measures import MEASURES, Measure
from limelight.microscope.head_table import Table
from limelight.microscope.interventions import (
    Ablate,
    AttentionChange,
    EqualKeyNorms,
    Intervention,
    Renormalize,
    Replace,
    Temperature,
    WithoutSinks,
)
from limelight.microscope.measuring import Measuring, measuring
from limelight.microscope.rollout import Rollout
from limelight.microscope.scope import Scope
from limelight.microscope.watched_attention import Place, WatchedAttention

__all__ = [
    "MEASURES",
    "Ablate",
    "AttentionChange",
    "EqualKeyNorms",
    "HeadInputs",
    "Intervention",
    "Measure",
    "Measuring",
    "Place",
    "Renormalize",
    "Replace",
    "Rollout",
    "Scope",
    "Table",
    "Temperature",
    "WatchedAttention",
    "WithoutSinks",
    "ablation_effect",
    "attach",
    "for_bertviz",
    "measuring",
]
