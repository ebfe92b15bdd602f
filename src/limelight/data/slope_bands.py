"""The bands of y in which the data of `slopes.py` have one slope each."""

SLOPES = (-2.0, 1.0, -0.5, 2.0, 0.5)  # not in order, so that no line is close to a(y)
CENTERS = (-2.0, -1.0, 0.0, 1.0, 2.0)  # centers of the bands of y, each half as wide as their distance
X_MAX = 2.0  # |x| in the training data
