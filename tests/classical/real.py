"""Three real data sets that methods without labels are run on, and squared distances written out."""

from sklearn import datasets
from sklearn.preprocessing import scale

REAL = {
    "iris": datasets.load_iris().data,
    "wine": scale(datasets.load_wine().data),
    "digits": datasets.load_digits().data[:400] / 16,
}


# Checks of scikit-learn's that ask for what an estimator cannot do, by its affinity and why.
EXCUSED = {
    "rbf": {},
    "precomputed": {"check_clustering": "it hands over points (50, 2), where a graph of them is expected"},
}


def squares(X, Y):
    return ((X[:, None] - Y[None]) ** 2).sum(-1)
