"""Claims put to the test: arms, seeds, measures, and a judgement written before any result is seen."""
