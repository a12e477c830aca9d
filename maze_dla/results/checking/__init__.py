"""Checks of a saved result: shapes that fit each other, numbers that are numbers, sums that hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maze_dla.results.activations import ActivationResult
from maze_dla.results.attention import AttentionResult
from maze_dla.results.attribution import AttributionResult, ContributionResult
from maze_dla.results.checking.activations import check_activations
from maze_dla.results.checking.attention import check_attention, check_distances, check_head_scores
from maze_dla.results.checking.contrasts import check_contrast
from maze_dla.results.checking.edited import check_circuit, check_steering
from maze_dla.results.checking.effects import check_effects
from maze_dla.results.checking.groups import check_groups, check_groups_of_stream
from maze_dla.results.checking.kinds import check_kinds
from maze_dla.results.checking.outliers import check_outliers
from maze_dla.results.checking.patching import check_patching
from maze_dla.results.checking.rollout import check_rollout
from maze_dla.results.checking.separability import check_separability
from maze_dla.results.checking.shapes import check_shapes
from maze_dla.results.checking.streams import check_streamed
from maze_dla.results.checking.sums import check_attribution, check_lens
from maze_dla.results.checking.tokens import check_token_lens
from maze_dla.results.circuits import CircuitResult
from maze_dla.results.contrast import PARTS, ContrastResult
from maze_dla.results.distances import DistanceResult
from maze_dla.results.effects import EffectResult
from maze_dla.results.groups import GroupedResult
from maze_dla.results.head_scores import HeadScores
from maze_dla.results.lens import LensResult, TokenLensResult
from maze_dla.results.outliers import MlpOutliersResult
from maze_dla.results.patching import PatchResult
from maze_dla.results.rollout import RolloutResult
from maze_dla.results.separability import SeparabilityResult
from maze_dla.results.steering import SteerResult
from maze_dla.results.streamed import StreamedResult

CHECKS: dict[type, Callable[[Any], None]] = {
    AttributionResult: check_attribution,
    ContributionResult: check_attribution,
    LensResult: check_lens,
    TokenLensResult: check_token_lens,
    StreamedResult: check_streamed,
    PatchResult: check_patching,
    EffectResult: check_effects,
    CircuitResult: check_circuit,
    SteerResult: check_steering,
    MlpOutliersResult: check_outliers,
    AttentionResult: check_attention,
    HeadScores: check_head_scores,
    DistanceResult: check_distances,
    RolloutResult: check_rollout,
    ActivationResult: check_activations,
    SeparabilityResult: check_separability,
}


def check_result(result: Any) -> None:
    """Refuse a result that no run can have made.

    Raises:
        ValueError: naming the field.
    """
    check_kinds(result)
    if isinstance(result, ContrastResult):
        for part in PARTS:
            check_result(getattr(result, part))
        check_contrast(result)
        return
    if isinstance(result, GroupedResult):
        check_groups(result)
        for one in result.results:
            check_result(one)
        return
    check_shapes(result)
    CHECKS[type(result)](result)
    if isinstance(result, StreamedResult) and result.groups is not None:
        check_groups_of_stream(result)
        check_result(result.groups)
