"""Which classes of prompts can be told apart by a linear probe, from which depth on, beside controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.text.classes import text_classes
from maze_dla.adapters.transformer_lens.random_weights import RandomWeights, with_random_weights
from maze_dla.adapters.transformer_lens.view import Forward
from maze_dla.analysis.activations import activations
from maze_dla.analysis.probes import LinearProbe, principal_components
from maze_dla.engine.classes import PromptClasses
from maze_dla.engine.model import ResidualModel
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, ModelError, check_kind, check_list, check_whole
from maze_dla.results.activations import ActivationResult
from maze_dla.results.columns import Column, groups_of
from maze_dla.results.probing import folds_of, majority, permuted_classes
from maze_dla.results.separability import SeparabilityResult
from maze_dla.results.torch_defaults import torch_defaults

TAKES = (
    "classes are PromptClasses (of maze.classes), a batch with its labels, a mapping from names to batches or to lists "
    "of texts, or a list of these"
)
GROUP = "probe group"
OF_MODEL = ("model", "checkpoint", "sha256", "weights", "task", "mazes", "seed", "prepend_bos", "unit", "precision")
OF_ONE_POSITION = "positions is 'read', a whole number, or an array with a position for each prompt"


@torch_defaults()
def separability(
    model: Any,
    classes: Any,
    *,
    site: str = "resid_post",
    positions: Any = "read",
    groups: Any = None,
    folds: int = 5,
    strength: float = 0.1,
    shuffles: int = 20,
    random_models: int = 2,
    random_weights: RandomWeights = "permuted",
    seed: int = 0,
    limit_gib: float = 2.0,
    sequences_at_once: int | None = None,
    forward: Forward = "auto",
) -> SeparabilityResult:
    """How well a linear probe tells classes of prompts apart at each depth, on mazes that it was not trained on.

    At every depth a logistic regression on standardised activations is trained on all folds but one and predicts the
    prompts of that one; prompts about one maze are never on both sides. Beside it stand the same probe on permuted
    labels, on models of the same architecture with random weights, on the embeddings of the token that is read, and a
    guess from the prompt's length alone. A probe says what can be read, not what the model uses: for that `patch` and
    `ablate` (Belinkov 2022, "Probing Classifiers", Computational Linguistics 48, section 4; controls as in Hewitt and
    Liang 2019, arXiv 1909.03368; cross-validated intervals as in Bayle et al. 2020, arXiv 2007.12671).

    Args:
        model: a `MazeModel`, a model of TransformerLens, or the engine's view of one.
        classes: `maze.classes(batch, "first_direction")` or other `PromptClasses`; (batch, labels), labels being a
            column's name or one for each prompt; {"a": one_batch, "b": another}; or, for a model with a tokenizer,
            lists of texts, {"male": ["The king", ...], "female": [...]}. Lists without names are "0", "1", ...
        site: as in `activations`. Of "resid_post", the default, the embeddings come first as a depth of their own.
        positions: "read", a whole number, or an array [prompt], as in `activations`.
        groups: what is never on both sides of a split, a column's name or a value for each prompt; default what
            prompts are about, a maze or a text.
        folds: into how many parts the groups are split; each class needs prompts in as many groups.
        strength: the inverse of the L2 penalty (scikit-learn's `C`); the same everywhere, never tuned on the result.
        shuffles: how many permutations of the labels; with fewer than 19 no p-value can reach 0.05.
        random_models: how many models with random weights; 0 for none.
        random_weights: "permuted": the entries of each weight change places; "normal": they are drawn from a normal
            distribution with its mean and standard deviation. The model itself is not touched.
        seed: of folds, permutations and random weights.
        limit_gib: the largest array of activations, in GiB.
        sequences_at_once: how many sequences go through the model together; changes speed, not numbers.
        forward: "auto" or "hooked", as in `attribute`.

    Returns:
        `accuracy` [depth] with intervals, `by_depth()`, `shuffled`, `random`, `baseline(...)`, `beyond(...)`,
        `coordinates` and `explained` of two principal components, and the `finding` in words.

    Raises:
        InputError: classes that are none of these, with fewer than two of them or too few groups for the folds, an
            unknown site or position, several positions of a prompt, or activations above `limit_gib`.
        ModelError: a site that the model does not have, or a model of which no random copy can be made, or activations
            that are not finite.
        MissingPackageError: scikit-learn is not installed.
    """
    asked = resolved(model, classes)
    _check_one_position(positions)
    options: dict[str, Any] = {"positions": positions, "limit_gib": limit_gib, "forward": forward}
    work = _Probing.of(asked, groups, check_whole("folds", folds, 2), strength, check_whole("seed", seed, 0))
    n_shuffles, n_random = check_whole("shuffles", shuffles, 0), check_whole("random_models", random_models, 0)
    read = _Reader(asked.batch, site, {**options, "sequences_at_once": sequences_at_once})
    own = read.of(model)
    x = own.features
    random = (with_random_weights(_itself(model), seed + i, random_weights) for i in range(n_random))
    parts: dict[str, Any] = work.on_labels(x, n_shuffles)
    parts["random_classes"] = work.on_models(x, [read.of(copy).features for copy in random])
    parts["probe_classes"] = work.probe.held_out(x, asked.class_of, work.folds)
    parts["baseline_classes"] = work.baselines(own.embeddings, asked.batch.lengths)
    parts["coordinates"], parts["explained"] = principal_components(x)
    info = {"question": asked.question, "site": site, "positions": own.result.info["positions"], "folds": work.n_folds}
    info |= {"strength": work.probe.strength, "probe_seed": seed, "not_converged": work.probe.not_converged}
    info |= {"random_weights": random_weights}
    return SeparabilityResult(
        class_of=asked.class_of,
        classes=asked.names,
        depths=own.labels,
        folds=work.folds,
        prompt_tokens=own.result.prompt_tokens,
        **work.described(own.result, info),
        **parts,
    )


def resolved(model: Any, classes: Any) -> PromptClasses:
    """Classes as callers give them.

    Raises:
        InputError: none of what is taken.
    """
    if isinstance(classes, PromptClasses):
        return classes
    kinds = [isinstance(one, PromptBatch) for one in classes] if isinstance(classes, tuple) else []
    if kinds == [True, False]:
        return PromptClasses.of(*classes)
    if isinstance(classes, Sequence) and not isinstance(classes, str):
        classes = {str(i): one for i, one in enumerate(classes)}
    if not isinstance(classes, Mapping) or not classes:
        raise InputError(f"{TAKES}, got {type(classes).__name__}")
    if all(isinstance(one, PromptBatch) for one in classes.values()):
        return PromptClasses.of_batches(classes)
    if all(isinstance(one, Sequence) and not isinstance(one, str) for one in classes.values()):
        return text_classes(_itself(model), classes)
    raise InputError(f"{TAKES}, got {', '.join(sorted({type(one).__name__ for one in classes.values()}))}")


def _itself(model: Any) -> Any:
    """The model of TransformerLens that there is to copy, or to take the tokenizer of."""
    if isinstance(model, MazeModel):
        return model.model
    return model.source if isinstance(model, ResidualModel) else model


def _check_one_position(positions: Any) -> None:
    several = isinstance(positions, list | tuple | range) or (isinstance(positions, str) and positions != "read")
    if several or positions is None:
        raise InputError(f"{OF_ONE_POSITION}, got {positions!r:.60}")


@dataclass(frozen=True)
class _Read:
    """Activations of one model as probes read them: features at each depth, heads side by side, and the embeddings."""

    features: Float[Tensor, "prompt depth feature"]
    labels: tuple[str, ...]
    embeddings: Float[Tensor, "prompt 1 feature"]
    result: ActivationResult


def _check_finite(found: ActivationResult) -> None:
    """Refuse activations that are not finite, of which a probe would say that there is nothing to read.

    Raises:
        ModelError: naming the prompt and the layer.
    """
    if not (bad := ~found.values.flatten(2).isfinite().all(2)).any():
        return
    prompt, layer = bad.nonzero()[0].tolist()
    raise ModelError(
        f"prompt {prompt}: {found.layer_labels[layer]} has numbers that are not finite, so that no probe can read it; "
        "look for NaN or infinity in the weights"
    )


@dataclass(frozen=True)
class _Reader:
    """Activations of one batch, of any model, at all layers of a site."""

    batch: PromptBatch
    site: str
    options: dict[str, Any]

    def of(self, model: Any) -> _Read:
        """One pass where the site is the stream, which begins with the embeddings; else two."""
        if self.site != "resid_post":
            found = activations(model, self.batch, site=self.site, **self.options)
            embeddings = activations(model, self.batch, site="resid_pre", layers=0, **self.options)
            _check_finite(found)
            return _Read(found.values.flatten(2), found.layer_labels, embeddings.values, found)
        found = activations(model, self.batch, site="resid", **self.options)
        _check_finite(found)
        at = [i for i, label in enumerate(found.layer_labels) if not label.endswith("_mid")]
        labels = ("0_pre", *(f"{layer}_post" for layer in range(len(at) - 1)))
        return _Read(found.values[:, at], labels, found.values[:, :1], found)


@dataclass(frozen=True)
class _Probing:
    """Probes of one set of classes, on the same folds."""

    asked: PromptClasses
    probe: LinearProbe
    group_of: Int[Tensor, " prompt"]
    names: tuple[str, ...]
    folds: Int[Tensor, " prompt"]
    n_folds: int
    seed: int
    is_own: bool

    @classmethod
    def of(cls, asked: PromptClasses, groups: Any, n_folds: int, strength: Any, seed: int) -> _Probing:
        """Folds that keep groups together.

        Raises:
            InputError: groups that part prompts about one thing, too few for the folds, or a penalty that is none.
            MissingPackageError: scikit-learn is not installed.
        """
        check_kind(strength, int | float, "strength is a number above 0")
        if not 0 < strength < float("inf"):
            raise InputError(f"strength is a number above 0, got {strength!r:.40}")
        values = _group_values(asked.batch, groups)
        names = tuple(dict.fromkeys(map(str, values)))
        group_of = groups_of(tuple(map(str, values)))
        folds = folds_of(asked.class_of, group_of, names, n_folds, seed)
        return cls(asked, LinearProbe(float(strength)), group_of, names, folds, n_folds, seed, groups is not None)

    def on_models(self, own: Tensor, others: list[Tensor]) -> Int[Tensor, "prompt model depth"]:
        """Classes predicted by probes on the activations of other models, [prompt, depth, feature] each."""
        found = [self.probe.held_out(x, self.asked.class_of, self.folds) for x in others]
        return torch.stack(found, 1) if found else torch.zeros(len(own), 0, own.shape[1], dtype=torch.int16)

    def on_labels(self, x: Float[Tensor, "prompt depth feature"], n: int) -> dict[str, Tensor]:
        """Permuted labels, and what probes on them predict, on folds that are made for them."""
        generator, y = torch.Generator().manual_seed(self.seed), self.asked.class_of
        labels = [permuted_classes(y, self.group_of, generator) for _ in range(n)]
        folds = [folds_of(one, self.group_of, self.names, self.n_folds, self.seed) for one in labels]
        found = [self.probe.held_out(x, one, fold) for one, fold in zip(labels, folds, strict=True)]
        none = torch.zeros(len(y), 0, x.shape[1], dtype=torch.int16)
        return {
            "shuffled_class_of": torch.stack(labels, 1).short() if n else none[..., 0],
            "shuffled_classes": torch.stack(found, 1) if n else none,
        }

    def baselines(self, embeddings: Tensor, lengths: Int[Tensor, " prompt"]) -> Int[Tensor, "prompt baseline"]:
        """Classes predicted by a probe on the embeddings, and by the prompts' length."""
        probed = self.probe.held_out(embeddings, self.asked.class_of, self.folds)[:, 0]
        return torch.stack([probed, majority(lengths, self.asked.class_of, self.folds).short()], 1)

    def described(self, own: ActivationResult, info: dict[str, Any]) -> dict[str, Any]:
        """Facts and columns of the prompts, with the groups that intervals are clustered by where callers gave some."""
        facts = {name: own.info[name] for name in OF_MODEL if name in own.info}
        if not self.is_own:
            return {"info": {**facts, **info}, "columns": own.columns}
        columns = {**own.columns, GROUP: tuple(self.names[g] for g in self.group_of.tolist())}
        return {"info": {**facts, **info, "unit": GROUP}, "columns": columns}


def _group_values(batch: PromptBatch, groups: Any) -> list[Any]:
    """The group of each prompt.

    Raises:
        InputError: no such column, another number than of prompts, or groups that part prompts about one thing.
    """
    own = _listed(batch.columns[batch.unit])
    if groups is None:
        return own
    if isinstance(groups, str):
        if groups not in batch.columns:
            raise InputError(f"groups: no column {groups!r:.60}, the batch has {', '.join(batch.columns)}")
        values = _listed(batch.columns[groups])
    else:
        check_list(groups, "groups")
        values = _listed(batch.with_column(GROUP, groups).columns[GROUP])
    group_of_own: dict[Any, Any] = {}
    for thing, value in zip(own, values, strict=True):
        if group_of_own.setdefault(thing, value) != value:
            raise InputError(f"groups keep prompts about one {batch.unit} together, but {thing!r:.40} is in several")
    return values


def _listed(column: Column) -> list[Any]:
    return column.tolist() if isinstance(column, Tensor) else list(column)
