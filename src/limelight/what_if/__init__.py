"""The effect of changing some heads of a model on what it returns, with an interval over texts.

    with limelight.microscope.attach(model) as scope:
        model(**inputs)
    effect = limelight.what_if.effect_of(scope, texts, Ablate([(18, 6)]))
    effect             # in words, with intervals
    effect.table()     # a row for each text
    effect.figure()    # a line for each text, from before to after

`OverTexts` has the measures of each head over several texts: means, intervals, and the texts in which they are least
and most.

The changes are those of `limelight.microscope`: `Ablate`, `WithoutSinks`, `EqualKeyNorms`, `Temperature`,
`Renormalize`, `Replace`, and classes of your own. Needs the extra `claims`.
"""

from limelight.what_if.effect import Effect, TextEffect
from limelight.what_if.measuring import effect_of, next_token_loss
from limelight.what_if.over_texts import OverTexts, Spread

__all__ = ["Effect", "OverTexts", "Spread", "TextEffect", "effect_of", "next_token_loss"]
