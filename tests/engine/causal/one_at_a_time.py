"""Interventions as the field writes them: hooks of the model, one prompt and one forward pass for every one of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from maze_dla.analysis import as_residual_model
from maze_dla.engine.edits import Edit, Rerun
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import Activations, Site
from tests.engine.reference import final_norm, norm_scale, parameter

HOOKS = {
    "resid_pre": "blocks.{}.hook_resid_pre",
    "attn_out": "blocks.{}.hook_attn_out",
    "mlp_out": "blocks.{}.hook_mlp_out",
    "q": "blocks.{}.attn.hook_q",
    "k": "blocks.{}.attn.hook_k",
    "v": "blocks.{}.attn.hook_v",
    "pattern": "blocks.{}.attn.hook_pattern",
    "z": "blocks.{}.attn.hook_z",
    "neurons": "blocks.{}.mlp.hook_post",
}
Found = dict[tuple[str, int], Tensor]


@dataclass(frozen=True, eq=False)
class Put:
    """One value at one place of one prompt."""

    name: str
    layer: int
    position: int
    value: Tensor
    head: int | None = None


def run(model: Any, tokens: Tensor, puts: Sequence[Put] = (), names: Collection[str] = tuple(HOOKS)) -> Found:
    """Activations [position, ...] of one prompt, patterns [query, head, key]; `("logits", 0)` at its end."""
    cfg, found = model.cfg, dict[tuple[str, int], Tensor]()
    without = ("mlp_out", "neurons") if cfg.attn_only else ()
    names = {*names, *(put.name for put in puts)}
    names |= {"resid_pre", "attn_out"} if "resid_mid" in names else set()
    names |= {"v", "z"} if any(put.name == "pattern" for put in puts) else set()
    hooks: list[tuple[str, Callable[..., Any]]] = []
    for layer in range(cfg.n_layers):
        for name, hook in HOOKS.items():
            if name in names and name not in without:
                here = [put for put in puts if (put.name, put.layer) == (name, layer)]
                before = {"attn_out": "resid_mid", "z": "pattern"}.get(name)
                others = [put for put in puts if (put.name, put.layer) == (before, layer)]
                hooks.append((hook.format(layer), _putting(name, layer, here, others, found)))
    last = f"blocks.{cfg.n_layers - 1}.hook_resid_post"
    hooks.append((last, lambda x, hook: found.update({("final", 0): x[0].detach().clone()})))
    with torch.no_grad():
        found["logits", 0] = model.run_with_hooks(tokens[None], fwd_hooks=hooks)[0, -1]
    return found


def _putting(name: str, layer: int, here: Sequence[Put], others: Sequence[Put], found: Found) -> Callable[..., Any]:
    """A hook that puts and keeps; what is put between attention and MLP is written by attention.

    Some versions show a pattern once it has been used: then values move by the one that is put all the same.
    """
    mid = others if name == "attn_out" else ()

    def hooked(x: Tensor, hook: Any) -> Tensor:
        x = x.clone()
        there = x.transpose(1, 2)[0] if name == "pattern" else x[0]
        for put in others if name == "z" else ():
            values = found["v", layer].repeat_interleave(x.shape[2] // found["v", layer].shape[1], 1)
            n = min(put.position + 1, put.value.shape[-1])
            if put.head is None:
                there[put.position] = torch.einsum("ht,thd->hd", put.value[:, :n].to(x), values[:n])
            else:
                there[put.position, put.head] = put.value[:n].to(x) @ values[:n, put.head]
        for put in here:
            at = there[put.position] if put.head is None else there[put.position, put.head]
            if name == "pattern":
                n = min(put.position + 1, put.value.shape[-1])
                at.zero_()
                at, value = at[..., :n], put.value[..., :n]
            else:
                value = put.value
            at.copy_(value)
        found[name, layer] = there.detach().clone()
        if name == "attn_out" and ("resid_pre", layer) in found:
            found["resid_mid", layer] = found["resid_pre", layer] + there
        for put in mid:
            there[put.position] = put.value - found["resid_pre", layer][put.position]
            found["resid_mid", layer][put.position] = put.value
        return x

    return hooked


def prompt(batch: PromptBatch, i: int) -> Tensor:
    """The tokens of a prompt."""
    return batch.tokens[i, : int(batch.lengths[i])]


def read(model: Any, tokens: Tensor, coefficients: Tensor, puts: Sequence[Put] = ()) -> float:
    """The metric of one prompt."""
    return float(run(model, tokens, puts, names=())["logits", 0].double() @ coefficients.double())


def writes(model: Any, vectors: Tensor, coefficients: Tensor) -> Tensor:
    """What vectors in the stream bring to the metric, not yet divided by the final scale."""
    kind = str(model.cfg.normalization_type).upper()
    vectors = vectors.double()
    if kind.startswith("LN"):
        vectors = vectors - vectors.mean(-1, keepdim=True)
    if kind in ("LN", "RMS"):
        vectors = vectors * parameter(final_norm(model), "w")
    return vectors @ model.W_U.detach().double() @ coefficients.double()


def scale_of(model: Any, found: Found) -> Tensor:
    """What the final norm divides by."""
    return norm_scale(final_norm(model), found["final", 0][-1].double(), model.cfg)


def unscaled(model: Any, found: Found, coefficients: Tensor) -> dict[str, Tensor]:
    """What heads [layer, head], MLPs and attention [layer] and all together bring, at the end of a prompt."""
    layers = range(model.cfg.n_layers)
    vectors = [torch.einsum("hd,hdm->hm", found["z", i][-1].double(), model.W_O[i].detach().double()) for i in layers]
    brought = {"heads": torch.stack([writes(model, v, coefficients) for v in vectors])}
    for name, site in (("mlps", "mlp_out"), ("attention", "attn_out")):
        held = [found[site, i][-1] for i in layers if (site, i) in found]
        brought[name] = writes(model, torch.stack(held), coefficients) if held else torch.zeros(0, dtype=torch.float64)
    return {**brought, "all": writes(model, found["final", 0][-1], coefficients)}


def effects(
    model: Any, plain: Found, tokens: Tensor, coefficients: Tensor, puts: Sequence[Put], part: tuple[str, Any]
) -> dict[str, Tensor]:
    """Total and direct effect of puts at one part, ("heads", (layer, head)) or ("mlps" | "attention", layer), and what
    the rest goes through; `plain` is the run of the tokens without puts.
    """  # fmt: skip
    one, two = plain, run(model, tokens, puts, names=("z", "attn_out", "mlp_out"))
    u, v, s, t = (
        unscaled(model, one, coefficients),
        unscaled(model, two, coefficients),
        *(scale_of(model, found) for found in (one, two)),
    )
    heads, mlps = (v["heads"] - u["heads"]) / s, (v["mlps"] - u["mlps"]) / s
    kind, where = part
    direct = ((v[kind] - u[kind]) / s)[where]
    if kind != "attention":
        (heads if kind == "heads" else mlps)[where] = 0.0
    total = (two["logits", 0] - one["logits", 0]).double() @ coefficients.double()
    return {
        "total": total,
        "direct": direct,
        "later_heads": heads,
        "later_mlps": mlps,
        "norm": v["all"] * (1 / t - 1 / s),
    }


@dataclass(eq=False)
class Counted:
    """A forward pass that counts what it is asked for: plain runs, branches, edits."""

    forward: Any
    branches: int = 0
    edits: list[Edit] = field(default_factory=list)
    plain: list[Activations] = field(default_factory=list)

    def __call__(self, micro: MicroBatch, sites: Sequence[Site]) -> Activations:
        return self.forward(micro, sites)

    def gradients(self, micro: MicroBatch, sites: Sequence[Site], direction: Tensor) -> Any:
        return self.forward.gradients(micro, sites, direction)

    def editable(self, micro: MicroBatch, sites: Sequence[Site], edited: Collection[Site]) -> tuple[Activations, Rerun]:
        found, rerun = self.forward.editable(micro, sites, edited)
        self.plain.append(found)

        def counted(prompts: Tensor, edits: Sequence[Edit], asked: Sequence[Site]) -> Activations:
            self.branches += len(prompts)
            self.edits += edits
            return rerun(prompts, edits, asked)

        return found, counted


def counted(model: Any, forward: Any = "auto") -> tuple[ResidualModel, Counted]:
    """A view of a model, and the count of what is run in it."""
    view = as_residual_model(model, forward)
    counting = Counted(view.forward)
    return replace(view, forward=counting), counting


def coefficients_of(metric: LinearMetric) -> Tensor:
    """[prompt, vocab]."""
    return metric.coefficients().double()
