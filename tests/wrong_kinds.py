"""Calls every public function with arguments of wrong kinds and prints what is not refused with an error of ours.

A script, since the tests' own checks of shapes would refuse some arguments first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib import pyplot as plt
from wrong_kinds_baselines import of_baselines
from wrong_kinds_inputs import (
    WRONG,
    batch,
    by_kind,
    few,
    gpt2,
    grid,
    lens,
    maze,
    metric,
    pairs,
    result,
    stream,
    tokens,
)

import maze_dla as dla
from maze_dla import plots
from maze_dla.errors import MazeDlaError

CLASSES = {name for name in dla.__all__ if name[0].isupper()}

ITS_OWN = {("stream ask", "metric")}  # a metric can be called, and what the call raises is its own


def calls(folder: Path) -> dict[str, Callable[[Any], object]]:
    """Each public function by its name and the argument that is wrong."""
    out = folder / "out"
    return {
        "attribute model": lambda w: dla.attribute(w, batch, metric),
        "attribute batch": lambda w: dla.attribute(maze.model, w, metric),
        "attribute metric": lambda w: dla.attribute(maze.model, batch, w),
        "contrast model": lambda w: dla.contrast(w, pairs),
        "contrast pairs": lambda w: dla.contrast(maze.model, w),
        "contrast metric": lambda w: dla.contrast(maze.model, pairs, w),
        "contrast neurons": lambda w: dla.contrast(maze.model, pairs, neurons=w),
        "contrast sequences_at_once": lambda w: dla.contrast(maze.model, pairs, sequences_at_once=w),
        "logit_lens model": lambda w: dla.logit_lens(w, batch, metric),
        "logit_lens batch": lambda w: dla.logit_lens(maze.model, w, metric),
        "logit_lens metric": lambda w: dla.logit_lens(maze.model, batch, w),
        "token_lens model": lambda w: dla.token_lens(w, batch),
        "token_lens batch": lambda w: dla.token_lens(maze.model, w),
        "token_lens k": lambda w: dla.token_lens(maze.model, batch, k=w),
        "token_lens tokens": lambda w: dla.token_lens(maze.model, batch, tokens=w),
        "predict model": lambda w: dla.predict(w, batch),
        "predict batch": lambda w: dla.predict(maze.model, w),
        "predict k": lambda w: dla.predict(maze.model, batch, k=w),
        "maze.predict batch": lambda w: maze.predict(w),
        "maze.predict k": lambda w: maze.predict(batch, k=w),
        "with_passage maze": lambda w: maze.with_passage(w, ((0, 0), (0, 1))),
        "with_passage passage": lambda w: maze.with_passage(batch.text(0).tokens, w),
        "compare first": lambda w: dla.compare(w),
        "compare second": lambda w: dla.compare(result, w),
        "ioi_prompts model": lambda w: dla.ioi_prompts(w),
        "ioi_pairs model": lambda w: dla.ioi_pairs(w),
        "ioi_pairs change": lambda w: dla.ioi_pairs(gpt2, w),
        "load_gpt2 source": lambda w: dla.load_gpt2(w),
        "load_maze_model source": lambda w: dla.load_maze_model(w),
        "load_result path": lambda w: dla.load_result(w),
        "save path": lambda w: result.save(w),
        "stream ask": lambda w: dla.stream(w, [batch]),
        "stream batches": lambda w: dla.stream(lambda part: result, w),
        "stream shards": lambda w: dla.stream(lambda part: w, [batch]),
        "write_report batch": lambda w: dla.write_report(maze, w, metric, out),
        "write_report metric": lambda w: dla.write_report(maze, batch, w, out),
        "write_report prompt": lambda w: dla.write_report(maze, batch, metric, out, prompt=w),
        "write_report out": lambda w: dla.write_report(maze, batch, metric, w),
        "top_heads k": lambda w: result.top_heads(w),
        "to_frame level": lambda w: result.to_frame(w),
        "summary name": lambda w: result.summary(w),
        "stream summary name": lambda w: stream.summary(w),
        "prompts mazes": lambda w: maze.prompts(w),
        "prompts task": lambda w: maze.prompts(task=w, n_mazes=2),
        "prompts padding": lambda w: maze.prompts(n_mazes=2, padding=w),
        "prompts seed": lambda w: maze.prompts(n_mazes=2, seed=w),
        **{
            f"pairs {name}": lambda w, name=name: maze.pairs(**{"n_mazes": 2, name: w})
            for name in ("mazes", "task", "change", "n_mazes", "seed", "matched", "padding")
        },
        "select pairs": lambda w: pairs.select(w),
        **_of_rollouts(),
        "geometry prompt": lambda w: batch.geometry(w),
        "plots.comparison compared": plots.comparison,
        "plots.heads label": lambda w: plots.heads(result, label=w),
        "plots.neurons k": lambda w: plots.neurons(result, k=w),
        "plots.token_lens prompt": lambda w: plots.token_lens(tokens, w),
        "plots.token_lens positions": lambda w: plots.token_lens(tokens, positions=w),
        **{
            f"plots.token_grid {name}": lambda w, name=name: plots.token_grid(grid, **{name: w})
            for name in ("prompt", "positions", "k", "colour", "token")
        },
        "plots.tokens_over_depth number": lambda w: plots.tokens_over_depth(tokens, number=w),
        "plots.tokens_over_depth more": lambda w: plots.tokens_over_depth(tokens, w),
        "plots.tokens_over_depth labels": lambda w: plots.tokens_over_depth(tokens, labels=w),
        "plots.token_sources k": lambda w: plots.token_sources(result, k=w),
        "plots.lens labels": lambda w: plots.lens(result, labels=w),
        "plots.lens more": lambda w: plots.lens(result, w),
        "plots.heads_by result": lambda w: plots.heads_by(w, "distance"),
        "plots.heads_by column": lambda w: plots.heads_by(result, w),
        "plots.heads_by bins": lambda w: plots.heads_by(result, "distance", w),
        "plots.heads_by heads": lambda w: plots.heads_by(result, "distance", heads=w),
        "plots.heads_by k": lambda w: plots.heads_by(result, "distance", k=w),
        **{f"plots.{name} result": draw for name, draw in _simple().items()},
        **{
            f"plots.{name} ax": lambda w, draw=draw, fits=FITS[name]: draw(fits, ax=w)
            for name, draw in _simple().items()
        },
        **dict(_of_mazes()),
        **dict(_along_paths()),
        **_of_metrics_and_prompts(),
        **_of_interventions(),
        **_of_attention(),
        **_of_activations(folder),
        **of_baselines(folder),
    }


def _of_attention() -> dict[str, Callable[[Any], object]]:
    relations, paid = maze.relations(batch), dla.attention(maze.model, batch)
    scores, by_distance = dla.head_scores(maze.model, batch, relations), maze.attention_by_distance(paid, batch)
    one = {"x": lambda tokens: [(1, 0)]}
    return {
        "attention model": lambda w: dla.attention(w, batch),
        "attention batch": lambda w: dla.attention(maze.model, w),
        "attention heads": lambda w: dla.attention(maze.model, batch, w),
        "attention most_bytes": lambda w: dla.attention(maze.model, batch, most_bytes=w),
        "attention select": lambda w: paid.select(w),
        "attention of_head": lambda w: paid.of_head(w),
        "attention to_frame": lambda w: paid.select([0]).to_frame(w),
        "head_scores model": lambda w: dla.head_scores(w, batch, relations),
        "head_scores batch": lambda w: dla.head_scores(maze.model, w, relations),
        "head_scores relations": lambda w: dla.head_scores(maze.model, batch, w),
        "head_scores queries": lambda w: dla.head_scores(maze.model, batch, relations, queries=w),
        "head_scores random": lambda w: dla.head_scores(maze.model, batch, relations, random=w),
        "head_scores seed": lambda w: dla.head_scores(maze.model, batch, relations, seed=w),
        "head_scores top": lambda w: scores.top(w),
        "head_scores top k": lambda w: scores.top("same cell", w),
        "text_relations batch": lambda w: dla.text_relations(w),
        "maze.relations batch": lambda w: maze.relations(w),
        "Relations.of batch": lambda w: dla.Relations.of(w, one),
        "Relations.of relations": lambda w: dla.Relations.of(batch, w),
        "Relations.of returned": lambda w: dla.Relations.of(batch, {"x": lambda tokens: w}),
        "Relations added": lambda w: relations + w,
        "Relations only": lambda w: relations.only(w),
        "attention_by_distance result": lambda w: maze.attention_by_distance(w, batch),
        "attention_by_distance batch": lambda w: maze.attention_by_distance(paid, w),
        "attention_by_distance query": lambda w: maze.attention_by_distance(paid, batch, w),
        "attention_by_distance distance": lambda w: maze.attention_by_distance(paid, batch, "read", w),
        "plots.attention_maze result": lambda w: plots.attention_maze(w, batch),
        "plots.attention_maze maze": lambda w: plots.attention_maze(paid, w),
        "plots.attention_maze prompt": lambda w: plots.attention_maze(paid, batch, w),
        "plots.attention_maze head": lambda w: plots.attention_maze(paid, batch, 0, w),
        "plots.attention_maze query": lambda w: plots.attention_maze(paid, batch, query=w),
        "plots.attention_maze ax": lambda w: plots.attention_maze(paid, batch, ax=w),
        "plots.attention_mazes mazes": lambda w: plots.attention_mazes(paid, w, [0]),
        "plots.attention_mazes prompts": lambda w: plots.attention_mazes(paid, batch, w),
        "plots.attention_by_distance result": plots.attention_by_distance,
        "plots.attention_by_distance heads": lambda w: plots.attention_by_distance(by_distance, w),
        "plots.attention_by_distance k": lambda w: plots.attention_by_distance(by_distance, k=w),
        "plots.head_scores scores": plots.head_scores,
        "plots.head_scores relations": lambda w: plots.head_scores(scores, w),
    }


def _of_rollouts() -> dict[str, Callable[[Any], object]]:
    walks = maze.rollout(batch, max_steps=2)
    names = ("n_samples", "temperature", "max_steps", "seed", "sequences_at_once")
    few = {"temperature": 1.0, "max_steps": 2}
    return {
        "rollout mazes": lambda w: maze.rollout(w, n_mazes=None if w is None else 2, max_steps=1),
        **{f"rollout {name}": lambda w, name=name: maze.rollout(batch, **{**few, name: w}) for name in names},
        **{
            f"rollout {name}": lambda w, name=name: maze.rollout(**{"n_mazes": 2, "max_steps": 1, name: w})
            for name in ("n_mazes", "padding")
        },
        "prompts of a rollout, task": lambda w: maze.prompts(walks, task=w),
        "prompts of a rollout, step": lambda w: maze.prompts(walks, step=w),
        "prompts step": lambda w: maze.prompts(batch, step=w),
        "score name": lambda w: walks.score(w),
        "share name": lambda w: walks.share(w),
        "rollout summary name": lambda w: walks.summary(w),
        "beside_walkers name": lambda w: walks.beside_walkers(w),
        "plots.rollout rollout": plots.rollout,
        "plots.rollout walk": lambda w: plots.rollout(walks, w),
        "plots.rollout ax": lambda w: plots.rollout(walks, ax=w),
    }


def _of_activations(folder: Path) -> dict[str, Callable[[Any], object]]:
    asked = maze.classes(maze.prompts(n_mazes=20), "legal_moves")
    given = {"model": maze.model, "classes": asked, "folds": 2, "shuffles": 1, "random_models": 1}
    named = ("model", "classes", "site", "positions", "groups", "folds", "strength", "random_weights", "seed")
    probed = {f"separability {n}": lambda w, n=n: dla.separability(**{**given, n: w}) for n in named}
    options: dict[str, Any] = {"model": maze.model, "batch": batch}
    read = ("model", "batch", "site", "positions", "layers", "limit_gib")
    recorded = {f"activations {n}": lambda w, n=n: dla.activations(**{**options, n: w}) for n in read}
    found = dla.activations(maze.model, batch)
    return {
        **probed,
        **recorded,
        "write_activations model": lambda w: dla.write_activations(w, batch, folder / "m"),
        "write_activations batches": lambda w: dla.write_activations(maze.model, w, folder / "b"),
        "write_activations folder": lambda w: dla.write_activations(maze.model, batch, str(folder) if w == "x" else w),
        "to_parquet folder": lambda w: found.to_parquet(str(folder) if w == "x" else w),
        "to_parquet rows_per_shard": lambda w: found.to_parquet(folder / "r", w),
        "layer label": lambda w: found.layer(w),
        "maze.classes batch": lambda w: maze.classes(w, "distance"),
        "maze.classes by": lambda w: maze.classes(batch, w),
        "maze.classes passage": lambda w: maze.classes(batch, "passage", passage=w),
        "PromptClasses.of batch": lambda w: dla.PromptClasses.of(w, "distance"),
        "PromptClasses.of labels": lambda w: dla.PromptClasses.of(batch, w),
        "PromptClasses.of_batches": lambda w: dla.PromptClasses.of_batches(w),
        "text_classes model": lambda w: dla.text_classes(w, {"a": ["x"], "b": ["y"]}),
        "text_classes texts": lambda w: dla.text_classes(gpt2, w),
        "plots.probe_accuracy result": plots.probe_accuracy,
        "plots.principal_components result": plots.principal_components,
    }


def _of_interventions() -> dict[str, Callable[[Any], object]]:
    vector, given = torch.ones(maze.model.cfg.d_model), {"parts": ["L0H0"]}
    options = {
        "patch": (dla.patch, {"pairs": pairs}, ("site", "direction", "positions", "neurons", "estimate", "seed")),
        "ablate": (dla.ablate, {}, ("parts", "heads", "value", "positions", "reference", "seed")),
        "keep_only": (dla.keep_only, given, ("parts", "value", "positions", "reference", "seed")),
        "find_circuit": (dla.find_circuit, {}, ("share", "value", "reference", "seed")),
        "steer": (
            dla.steer,
            {"vector": vector, "layer": 1},
            ("vector", "layer", "site", "strengths", "positions", "controls", "seed"),
        ),
        "difference_of_means": (dla.difference_of_means, {"one": batch, "two": batch, "layer": 1}, ("layer", "site")),
        "component_mean": (dla.component_mean, {"batch": batch, "part": "L0H0"}, ("part",)),
        "unembedding_direction": (dla.unembedding_direction, {}, ()),
    }
    found: dict[str, Callable[[Any], object]] = {}
    for name, (ask, more, names) in options.items():
        whole = {"model": maze.model, **more}
        if name not in ("patch", "difference_of_means", "component_mean"):
            whole |= {"batch": batch, "metric": metric}
        asked = dict.fromkeys([*(n for n in whole if n in ("model", "batch", "metric", "pairs", "one", "two")), *names])
        found |= {f"{name} {n}": lambda w, ask=ask, n=n, whole=whole: ask(**{**whole, n: w}) for n in asked}
    values, patterns, own = (dla.patch(maze.model, pairs, site=site) for site in ("v", "pattern", "resid_pre"))
    return found | {
        "plots.patching result": plots.patching,
        "plots.patching prompt": lambda w: plots.patching(own, prompt=w),
        "plots.patching last": lambda w: plots.patching(own, last=w),
        "plots.patching_on_maze result": lambda w: plots.patching_on_maze(w, pairs),
        "plots.patching_on_maze maze": lambda w: plots.patching_on_maze(own, w),
        "plots.patching_on_maze prompt": lambda w: plots.patching_on_maze(own, pairs, w),
        "plots.patching_on_maze layers": lambda w: plots.patching_on_maze(own, pairs, layers=w),
        "plots.values_and_patterns values": lambda w: plots.values_and_patterns(w, patterns),
        "plots.values_and_patterns patterns": lambda w: plots.values_and_patterns(values, w),
        "plots.direct_and_total effects": plots.direct_and_total,
        "plots.steering result": plots.steering,
        **_of_outliers(),
    }


def _of_outliers() -> dict[str, Callable[[Any], object]]:
    found = dla.mlp_outliers(gpt2, few, layers=[0])
    return {
        "mlp_outliers model": lambda w: dla.mlp_outliers(w, few),
        "mlp_outliers batch": lambda w: dla.mlp_outliers(gpt2, w if w is not batch else None, layers=[0]),
        **{
            f"mlp_outliers {name}": lambda w, name=name: dla.mlp_outliers(gpt2, few, **{"layers": [0], name: w})
            for name in ("layers", "k", "controls", "seed", "sequences_at_once")
        },
        "top k": found.top,
        "control_summary name": found.control_summary,
        "plots.mlp_outliers result": plots.mlp_outliers,
        "plots.mlp_outliers label": lambda w: plots.mlp_outliers(found, label=w),
        "plots.mlp_outliers_after_norm result": plots.mlp_outliers_after_norm,
        "plots.mlp_outliers_after_norm label": lambda w: plots.mlp_outliers_after_norm(found, label=w),
    }


def _of_metrics_and_prompts() -> dict[str, Callable[[Any], object]]:
    ids, right = [[1, 2, 3]], [4]
    plain = dla.PromptBatch.from_tokens(ids, right, d_vocab=9)
    return {
        "logit batch": lambda w: dla.logit(w),
        "logit_diff batch": lambda w: dla.logit_diff(w, [3] * 3),
        "logit_diff incorrect": lambda w: dla.logit_diff(batch, w),
        "correct_vs_other batch": lambda w: dla.correct_vs_other(w),
        "correct_vs_other others": lambda w: dla.correct_vs_other(batch, w),
        "correct_vs_other reduce": lambda w: dla.correct_vs_other(batch, reduce=w),
        "linear_metric batch": lambda w: dla.linear_metric(w, torch.ones(3, 36)),
        "linear_metric coefficients": lambda w: dla.linear_metric(batch, w),
        "text_prompts model": lambda w: dla.text_prompts(w, ["a"], [" b"]),
        "text_prompts texts": lambda w: dla.text_prompts(gpt2, w, [" Mary"]),
        "text_prompts answers": lambda w: dla.text_prompts(gpt2, ["When Mary"], w),
        "text_prompts incorrect": lambda w: dla.text_prompts(gpt2, ["When Mary"], [" Mary"], w),
        "text_prompts one answer": lambda w: dla.text_prompts(gpt2, ["When Mary"], [w]),
        "text_prompts prepend_bos": lambda w: dla.text_prompts(gpt2, ["When Mary"], [" Mary"], prepend_bos=w),
        "from_tokens tokens": lambda w: dla.PromptBatch.from_tokens(w, right, d_vocab=9),
        "from_tokens targets": lambda w: dla.PromptBatch.from_tokens(ids, w, d_vocab=9),
        "from_tokens d_vocab": lambda w: dla.PromptBatch.from_tokens(ids, right, d_vocab=w),
        "from_tokens labels": lambda w: dla.PromptBatch.from_tokens(ids, right, d_vocab=9, labels=w),
        **{
            f"from_tokens {name}": lambda w, name=name: dla.PromptBatch.from_tokens(ids, right, d_vocab=9, **{name: w})
            for name in ("pad_id", "incorrect", "d_vocab_in", "vocabulary", "token_sets", "info", "kinds")
        },
        **{
            f"PromptBatch {field.name}": lambda w, name=field.name: replace(plain, **{name: w})
            for field in fields(dla.PromptBatch)
        },
        **{
            f"PromptPairs {name}": lambda w, name=name: replace(pairs, **{name: w})
            for name in ("clean", "corrupted", "info")
        },
        "having name": lambda w: batch.having(w),
        "token_set name": lambda w: batch.token_set(w),
        "select prompts": lambda w: batch.select(w),
        "result select prompts": lambda w: result.select(w),
        "lens select prompts": lambda w: lens.select(w),
        "group_by by": lambda w: result.group_by(w),
        "group_by bins": lambda w: result.group_by("distance", w),
        "stream group_by": lambda w: dla.stream(lambda part: result, [batch], group_by=w),
        "stream bins": lambda w: dla.stream(lambda part: result, [batch], group_by="distance", bins=w),
        "grouped summary name": lambda w: result.group_by("distance").summary(w),
        "grouped top_heads k": lambda w: result.group_by("distance").top_heads(w),
        "joined batches": lambda w: batch.__add__(w),
        "metric select prompts": lambda w: metric.select(w),
        "of_task task": lambda w: batch.of_task(w),
    }


FITS = {
    **dict.fromkeys(("layers", "heads", "heads_along_path", "neurons", "token_sources"), result),
    "lens": lens,
    "source_kinds": by_kind,
    "token_lens": tokens,
    "tokens_over_depth": tokens,
    "token_grid": grid,
}


def _simple() -> dict[str, Callable[..., object]]:
    return {name: getattr(plots, name) for name in FITS}


def _of_mazes() -> Iterator[tuple[str, Callable[[Any], object]]]:
    for name in ("maze_sources", "maze_attention", "maze_sources_and_attention"):
        draw = getattr(plots, name)
        yield f"plots.{name} result", lambda w, draw=draw: draw(w, batch)
        yield f"plots.{name} maze", lambda w, draw=draw: draw(result, w)
        yield f"plots.{name} prompt", lambda w, draw=draw: draw(result, batch, w)
        yield f"plots.{name} head", lambda w, draw=draw: draw(result, batch, 0, w)
    yield "plots.lens_maze result", lambda w: plots.lens_maze(w, batch)
    yield "plots.lens_maze maze", lambda w: plots.lens_maze(tokens, w)
    for name in ("prompt", "depths", "position"):
        yield f"plots.lens_maze {name}", lambda w, name=name: plots.lens_maze(grid, batch, **{name: w})


def _along_paths() -> Iterator[tuple[str, Callable[[Any], object]]]:
    for name, fits in (("lens_along_path", lens), ("layers_along_path", result)):
        draw = getattr(plots, name)
        yield f"plots.{name} result", lambda w, draw=draw: draw(w, batch)
        yield f"plots.{name} steps", lambda w, draw=draw, fits=fits: draw(fits, w)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        tried = calls(Path(name))
        functions = {*dla.__all__, *(f"plots.{plot}" for plot in plots.__all__)} - CLASSES - {"plots"}
        for missing in functions - {call.split()[0] for call in tried}:
            print(f"{missing} is not tried")
        for call, function in tried.items():
            for kind, wrong in WRONG.items():
                if (call, kind) in ITS_OWN:
                    continue
                try:
                    function(str(Path(name) / "x") if kind == "x" and call.endswith((" path", " out")) else wrong)
                except MazeDlaError:
                    pass
                except Exception as problem:
                    print(f"{call} = {kind}: {type(problem).__name__}: {problem}")
                plt.close("all")
        print(f"{len(tried) * len(WRONG)} calls")


if __name__ == "__main__":
    main()
