"""The bands of y in which the data of `slopes.py` have one slope each."""

SLOPES = (-2.0, 1.0, -0.5, 2.0, 0.5)  # in no order: a(y) is nothing that a line could follow
CENTERS = (-2.0, -1.0, 0.0, 1.0, 2.0)  # of the bands of y, each half as wide as the step between them
X_MAX = 2.0  # |x| in the training data
