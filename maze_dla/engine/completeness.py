"""The promise: parts add up to their whole, for every prompt, or there is no result."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.errors import CompletenessError
from maze_dla.results.tolerances import tolerance_of


def check_sums(
    whole: Float[Tensor, " prompt *group"],
    parts: Float[Tensor, "prompt *group part"],
    size: Float[Tensor, " prompt"],
    dtype: torch.dtype,
    what: str,
    prompts: Int[Tensor, " prompt"] | None = None,
) -> Float[Tensor, " prompt *group"]:
    """The gap, `whole` minus the sum of `parts`, once it is known to be small for every prompt.

    Args:
        whole, parts: in logits; the parts stand on the last axis.
        size: the size of the metric's parts for each prompt, which the gap is measured by.
        dtype: what the model computes in; float32 allows 1e-4 of the size, float64 1e-10.
        what: names whole and parts in the error.
        prompts: the number of each prompt in its batch, for the error; default 0, 1, ...

    Raises:
        CompletenessError: naming the worst prompt with both sides and the gap; also where a number is not finite.
    """
    tolerance = tolerance_of(dtype)
    total = parts.double().sum(-1)
    gap = whole.double() - total
    relative = gap.abs() / size.double().clamp_min(1e-12).view(-1, *[1] * (gap.ndim - 1))
    relative = torch.where(relative.isfinite(), relative, torch.inf)
    worst = relative.flatten(1).amax(1) if relative.ndim > 1 else relative
    if worst.numel() and float(worst.max()) > tolerance:
        prompt = int(worst.argmax())
        place = torch.unravel_index(relative[prompt].argmax(), relative[prompt].shape) if relative.ndim > 1 else ()
        i = (prompt, *(int(p) for p in place))
        at = f" at index {list(i[1:])}" if len(i) > 1 else ""
        number = prompt if prompts is None else int(prompts[prompt])
        if not torch.isfinite(whole[i]):
            raise CompletenessError(f"prompt {number}: {what}{at}: the whole is not finite ({float(whole[i])})")
        raise CompletenessError(
            f"prompt {number}: {what}{at}: "
            f"the parts sum to {float(total[i]):.6g}, the whole is {float(whole[i]):.6g}; "
            f"the gap {float(gap[i]):.3g} is {float(relative[i]):.1e} of the largest part "
            f"(at most {tolerance:.0e} in {str(dtype).removeprefix('torch.')})"
        )
    return gap


class SumChecks:
    """The sums of one run. What lies on another device than the CPU is checked at the end, so that nothing waits."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._later: list[tuple[Tensor, Tensor, Tensor, str, Tensor]] = []

    def add(
        self,
        whole: Float[Tensor, " prompt *group"],
        parts: Float[Tensor, "prompt *group part"],
        size: Float[Tensor, " prompt"],
        what: str,
        prompts: Int[Tensor, " prompt"],
    ) -> None:
        """Check that the parts sum to the whole, as `check_sums` does.

        Raises:
            CompletenessError: they do not.
        """
        if whole.device.type == "cpu" and parts.device.type == "cpu":
            check_sums(whole, parts, size, self._dtype, what, prompts)
        else:
            self._later.append((whole, parts, size, what, prompts))

    def finish(self) -> None:
        """Check what could not be checked at once.

        Raises:
            CompletenessError: parts that do not sum to their whole.
        """
        for whole, parts, size, what, prompts in self._later:
            check_sums(whole.cpu(), parts.cpu(), size.cpu(), self._dtype, what, prompts)
