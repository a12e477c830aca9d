"""Activations of prompts as an array with labelled axes: to numpy, pandas and Parquet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.errors import InputError, check_path, check_whole
from maze_dla.results.base import PromptResult
from maze_dla.results.torch_defaults import torch_defaults

if TYPE_CHECKING:
    import pandas as pd

AXES = (  # of a site's values after the prompt; the last one is that of the activation's numbers
    ("layer", "feature"),
    ("layer", "position", "feature"),
    ("layer", "head", "feature"),
    ("layer", "head", "position", "feature"),
)
OF_ROWS = ("prompt", "layer", "head", "position", "token")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ActivationResult(PromptResult):
    """Activations of one site in chosen layers, at chosen positions of every prompt; `metric` is the answer's logit.

    `values` is [prompt, layer, (head), (position), feature]: features are the numbers of the stream (d_model), of a
    head (d_head) or of an MLP (its neurons after their activation function). There is no position axis where one
    position of each prompt was asked for. After a prompt's end values are NaN and `positions` are -1.
    """

    values: Float[Tensor, " prompt *site"]
    """The activations, as the model has them (half precision in float32)."""
    site: str
    """Which activations: "resid", "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z" or "neurons"."""
    axes: tuple[str, ...]
    """The axes after the prompt: "layer", "head" where the site has heads, "position" where several, "feature"."""
    layer_labels: tuple[str, ...]
    """A name for each entry of the layer axis: of the stream "0_pre", ..., "final_post", else "0_attn_out", "2_z"."""
    positions: Int[Tensor, "prompt position"]
    """The position of each entry of the position axis in each prompt, the only one where there is no such axis."""

    @property
    def warning(self) -> str | None:
        """None: activations are recorded, whatever the model is good at."""
        return None

    @property
    def has_positions(self) -> bool:
        """Whether `values` has a position axis."""
        return "position" in self.axes

    @torch_defaults()
    def to_numpy(self) -> Any:
        """The values as an array of numpy, a copy on the CPU, in the order of `values`."""
        return self.values.detach().cpu().numpy().copy()

    @torch_defaults()
    def layer(self, label: str) -> Float[Tensor, "prompt ..."]:
        """The values of one layer by its label, [prompt, (head), (position), feature].

        Raises:
            InputError: a label that this result does not have.
        """
        if label not in self.layer_labels:
            raise InputError(f"layers are {', '.join(self.layer_labels)}, got {label!r:.60}")
        return self.values[:, self.layer_labels.index(label)]

    @torch_defaults()
    def to_frame(self) -> pd.DataFrame:
        """One row for each prompt, layer, head and position as far as there are such axes; a column for each feature.

        Columns: prompt, layer (its label), head, position, token (what stands there), the prompts' own columns, and d0,
        d1, ... for the features. Positions after a prompt's end have no rows.

        Raises:
            InputError: a column of the prompts that goes by one of these names.
        """
        import pandas as pd

        rows = torch.cartesian_prod(*(torch.arange(n) for n in self.values.shape[:-1])).view(-1, self.values.ndim - 1)
        named = dict(zip(("prompt", *self.axes), rows.unbind(1), strict=False))
        place = named.get("position", torch.zeros(len(rows), dtype=torch.long))
        at = self.positions[named["prompt"], place]
        there = at >= 0
        prompts, at = named["prompt"][there], at[there]
        table: dict[str, Any] = {"prompt": prompts.numpy()}
        table["layer"] = [self.layer_labels[i] for i in named["layer"][there].tolist()]
        table |= {"head": named["head"][there].numpy()} if "head" in named else {}
        tokens = [self.prompt_tokens[i][p] for i, p in zip(prompts.tolist(), at.tolist(), strict=True)]
        table |= {"position": at.numpy(), "token": tokens}
        features = self.values.flatten(0, -2)[there]
        names = [f"d{i}" for i in range(features.shape[1])]
        if taken := [name for name in self.columns if name in (*OF_ROWS, *names)]:
            raise InputError(f"the frame has a column {taken[0]!r} of its own: give that of the prompts another name")
        for name, held in self.columns.items():
            listed = held.tolist() if isinstance(held, Tensor) else held
            table[name] = [listed[i] for i in prompts.tolist()]
        return pd.concat([pd.DataFrame(table), pd.DataFrame(features.cpu().numpy(), columns=names)], axis=1)

    @torch_defaults()
    def to_parquet(self, folder: str | Path, rows_per_shard: int = 1000) -> list[Path]:
        """Parquet files of so many prompts each, in a folder that holds none yet; the files.

        A row is a prompt: its columns, `positions`, and its values flattened into a list, in the order of `values`
        without the positions after its end. Shapes and labels stand in the schema's metadata under "maze_dla". Each
        file appears whole or not at all.

        Raises:
            InputError: no path, a folder that holds shards already or cannot be written, or less than one row a file.
            MissingPackageError: pyarrow is not installed.
        """
        from maze_dla.results.shards import ShardWriter

        check_path(folder, "folder")
        n = check_whole("rows_per_shard", rows_per_shard, 1)
        pieces = torch.arange(len(self)).split(n)
        with ShardWriter.open(folder) as writer:
            return [writer.write(self.select(piece)) for piece in pieces]

    def per_prompt(self) -> dict[str, Float[Tensor, "prompt ..."]]:
        """The numbers of each prompt whose shape does not depend on how long prompts are."""
        more = {} if bool((self.positions < 0).any()) else {"values": self.values}
        return {**super().per_prompt(), **more}

    def lists(self) -> dict[str, list[Tensor]]:
        """The positions of each prompt, and its values where prompts have different numbers of them."""
        held = self.positions >= 0
        found = {"positions": [row[here] for row, here in zip(self.positions, held, strict=True)]}
        if "values" in self.per_prompt():
            return found
        return {**found, "values": [x[..., here, :] for x, here in zip(self.values, held, strict=True)]}

    def _summary_rows(self) -> list[tuple[str, str]]:
        shape = ", ".join(f"{n} {axis}" for n, axis in zip(self.values.shape, ("prompt", *self.axes), strict=True))
        told = self.info.get("positions", "read")
        return [
            ("model", str(self.info.get("model", "?"))),
            ("task", str(self.info.get("task", "?"))),
            ("prompts", str(len(self)) + self.about),
            ("site", f"{self.site}, {self.layer_labels[0]} to {self.layer_labels[-1]}"),
            ("positions", str(told)),
            ("values", f"[{shape}], {str(self.values.dtype).removeprefix('torch.')}"),
        ]
