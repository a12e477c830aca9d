"""Linear probes on activations, fitted by scikit-learn; and principal components."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.errors import optional_module

MOST_STEPS = 2000


@dataclass
class LinearProbe:
    """Logistic regression on standardised features, as it predicts the classes of held-out prompts.

    Classes weigh the same. Mean and scale of the features are those of the training prompts. Counts the fits that did
    not converge.
    """

    strength: float
    """The inverse strength of the L2 penalty, scikit-learn's `C`."""
    not_converged: int = 0
    modules: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        needs = "separability needs scikit-learn"
        names = ("sklearn", "sklearn.linear_model", "sklearn.preprocessing", "sklearn.exceptions")
        self.modules = [optional_module(name, needs, "'maze_dla[probes]'") for name in names]

    def held_out(
        self,
        features: Float[Tensor, "prompt depth feature"],
        class_of: Int[Tensor, " prompt"],
        folds: Int[Tensor, " prompt"],
    ) -> Int[Tensor, "prompt depth"]:
        """The class that each prompt gets from a probe trained on the other folds, at each depth by itself."""
        sklearn, _, preprocessing, _ = self.modules
        found = torch.zeros(features.shape[:2], dtype=torch.int16)
        numbers, classes = features.double().cpu().numpy(), class_of.numpy()
        n, n_depths, width = numbers.shape
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):  # half of the time
            for fold in folds.unique().tolist():
                held = (folds == fold).numpy()
                scaler = preprocessing.StandardScaler().fit(numbers[~held].reshape(-1, n_depths * width))
                scaled = scaler.transform(numbers.reshape(n, -1)).reshape(numbers.shape)
                for depth in range(n_depths):
                    probe = self._fitted(scaled[~held, depth], classes[~held])
                    told = torch.from_numpy(probe.predict(scaled[held, depth]))
                    found[torch.from_numpy(held), depth] = told.short()
        return found

    def _fitted(self, features: Any, classes: Any) -> Any:
        _, linear, _, exceptions = self.modules
        _, place, counts = np.unique(classes, return_inverse=True, return_counts=True)
        weights = len(classes) / (len(counts) * counts[place])  # as class_weight="balanced", in less time
        probe = linear.LogisticRegression(C=self.strength, max_iter=MOST_STEPS)
        with warnings.catch_warnings():  # what has not converged is counted
            warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
            probe.fit(features, classes, sample_weight=weights)
        self.not_converged += int(max(probe.n_iter_) >= MOST_STEPS)
        return probe


def principal_components(
    features: Float[Tensor, "prompt depth feature"], n: int = 2
) -> tuple[Float[Tensor, "prompt depth pc"], Float[Tensor, "depth pc"]]:
    """Coordinates along the `n` directions of the largest variance at each depth, and the shares that they explain.

    The largest entry of each direction is positive. Shares are 0 where prompts do not differ.
    """
    coordinates, explained = [], []
    for x in features.double().cpu().unbind(1):
        centred = x - x.mean(0)
        values, vectors = torch.linalg.eigh(centred.T @ centred)
        directions = vectors.flip(1)[:, :n]
        largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
        coordinates.append(centred @ (directions * largest.sign()))
        total = values.clamp_min(0).sum()
        explained.append(values.flip(0)[:n].clamp_min(0) / total if total > 0 else torch.zeros(n, dtype=torch.double))
    return torch.stack(coordinates, 1), torch.stack(explained)
