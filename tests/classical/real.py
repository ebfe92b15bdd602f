"""Three real data sets for unsupervised methods, and a function for squared distances."""

from sklearn import datasets
from sklearn.preprocessing import scale

REAL = {
    "iris": datasets.load_iris().data,
    "wine": scale(datasets.load_wine().data),
    "digits": datasets.load_digits().data[:400] / 16,
}


# Checks of scikit-learn that an estimator cannot pass, by its affinity, with the reason.
EXCUSED = {
    "rbf": {},
    "precomputed": {"check_clustering": "it hands over points (50, 2), where a graph of them is expected"},
}


def squares(X, Y):
    return ((X[:, None] - Y[None]) ** 2).sum(-1)
