"""A maze model with everything that it needs to be asked: vocabulary, task prompts, conventions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maze_dla.adapters.mazes.classes import maze_classes
from maze_dla.adapters.mazes.counterfactuals import Change
from maze_dla.adapters.mazes.datasets import MazeSupply, maze_supply
from maze_dla.adapters.mazes.distances import Measure, Query, attention_by_distance
from maze_dla.adapters.mazes.drawn import with_passage
from maze_dla.adapters.mazes.pairs import build_pairs, find_task_of_pairs
from maze_dla.adapters.mazes.pickling import Picklable
from maze_dla.adapters.mazes.prompt_batches import PromptBatches
from maze_dla.adapters.mazes.prompts import MazePromptBatch, Padding
from maze_dla.adapters.mazes.relations import maze_relations
from maze_dla.adapters.mazes.rollouts import How, roll_out
from maze_dla.adapters.mazes.tasks import Task, Tasks, find_tasks
from maze_dla.adapters.mazes.vocabulary import MazeVocabulary
from maze_dla.adapters.mazes.walk_prompts import refuse_beside_rollout, walk_prompts
from maze_dla.adapters.transformer_lens.exclusive import exclusive
from maze_dla.adapters.transformer_lens.identity import identity
from maze_dla.adapters.transformer_lens.view import view
from maze_dla.engine.attention.relations import Relations
from maze_dla.engine.classes import PromptClasses
from maze_dla.engine.direct.prediction import predict
from maze_dla.engine.pairs import PromptPairs
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, check_kind, check_whole
from maze_dla.results.attention import AttentionResult
from maze_dla.results.distances import DistanceResult
from maze_dla.results.predictions import prediction_table
from maze_dla.results.rollout import RolloutResult
from maze_dla.results.torch_defaults import torch_defaults

if TYPE_CHECKING:
    import pandas as pd

LARGEST_SEED = 2**32 - 1
DEFAULT_TASK = "first_path_choice"


@dataclass(frozen=True, eq=False)
class MazeModel(Picklable):
    """A maze transformer (`model`, of TransformerLens) with its vocabulary and the config of its data set.

    `prepend_bos` says whether prompts get an extra `<ADJLIST_START>` in front, as maze-transformer's models see them
    in training and at inference. It can be pickled, for processes that are spawned, and copied: what comes out has the
    same numbers and the same `info`.
    """

    model: Any
    vocabulary: MazeVocabulary
    dataset_config: Mapping[str, Any]
    prepend_bos: bool = True

    @property
    def info(self) -> Mapping[str, Any]:
        """The model's name, its checkpoint, and the hash of its weights as they are now."""
        return identity(self.model)

    @property
    def grid_n(self) -> int:
        """Rows and columns of the lattice that the model was trained on."""
        return int(self.dataset_config["grid_n"])

    @torch_defaults()
    def prompts(
        self,
        mazes: Any = None,
        *,
        task: Tasks = DEFAULT_TASK,
        n_mazes: int | None = None,
        seed: int = 0,
        prepend_bos: bool | None = None,
        padding: Padding = None,
        step: int | None = None,
    ) -> MazePromptBatch:
        """Prompts of a task, or of several on the same mazes; or about steps of the walks of a rollout.

        Args:
            mazes: None generates them from the checkpoint's own config, the same for a seed in any process and
                thread; else a `MazeDataset`, the path of a saved one, a `SolvedMaze` or a list of them, mazes drawn as
                text (as maze-dataset's `as_ascii` draws them, with S for the origin and E for the target; their
                shortest paths are found), or mazes with their paths as token lists (or strings with spaces). Or a
                `RolloutResult`: then the prompts are its walks as the model took them, and `task` or `step` says which
                of their steps, each with the right answers of the maze where the walk stands (`WalkPromptBatch`).
            task: one of `maze_dla.TASKS`, or a function of a maze's tokens and a numpy generator that returns the
                position of the token to predict, or a list of positions. A list of tasks asks each of them of every
                maze: prompts of one maze stand together, in the order of the tasks, and share its sequence, which
                runs once. `batch.task_of` says which is which, `batch.of_task(name)` has those of one task.
            n_mazes: how many; default 100 where they are generated, else all that are given.
            seed: of the generated mazes, of the order of their adjacency lists, and of tasks that choose at random.
            prepend_bos: the extra BOS for these prompts; default as the model was loaded.
            padding: `<PADDING>` in front of each prompt up to the longest of them ("longest") or to a number of
                tokens, which the model sees and which moves all positions on. That is how maze-transformer ran and
                trained its models on batches of prompts of different lengths in 2023 (and some later: padding that
                was neither masked nor left out of the positions). Use it to see such a model as its training did;
                None, the default, runs each prompt by itself.
            step: of a rollout, the step of each walk that has it; 1 is the first move. Or task="first_wrong_step", of
                each walk that has one, or "every_step". Nothing else goes with a rollout.

        Raises:
            InputError: an unknown task or none, two of one name, no mazes asked for, a negative seed.
            DatasetError: a file that is no data set of mazes, or mazes that contradict themselves.
            PromptError: naming the prompt, and the token or the step of the path that is at fault.
        """
        if isinstance(mazes, RolloutResult):
            refuse_beside_rollout(n_mazes=n_mazes, seed=seed or None, prepend_bos=prepend_bos, padding=padding)
            return walk_prompts(mazes, self.vocabulary, None if task == DEFAULT_TASK else task, step, self.grid_n)
        if step is not None:
            raise InputError(f"step is of the walks of a rollout, got step={step!r:.60} without one")
        tasks = find_tasks(task)
        seed = check_whole("seed", seed, 0, LARGEST_SEED)
        n_mazes = None if n_mazes is None else check_whole("n_mazes", n_mazes, 1)
        supply = maze_supply(mazes, self.vocabulary, self.dataset_config, n_mazes)
        return self._batch(supply, 0, supply.n_mazes, tasks, seed, prepend_bos, padding)

    @torch_defaults()
    def pairs(
        self,
        mazes: Any = None,
        *,
        task: Tasks = "first_path_choice",
        change: Change = "target",
        n_mazes: int | None = None,
        seed: int = 0,
        matched: bool = False,
        prepend_bos: bool | None = None,
        padding: Padding = None,
    ) -> PromptPairs:
        """Prompts of a task, each with its counterfactual: one thing is changed, and the right answer with it.

        The two prompts of a pair have as many tokens, in the same order, and differ in nothing else. Where several next
        cells lie on shortest paths all of them are right, and none is right in both prompts.

        | change | what differs | tasks |
        | --- | --- | --- |
        | "target" | the goal: another cell of the same maze, to which another next step leads | `first_path_choice`; in mazes with forks also `rand_path_token`, `rand_path_token_non_endpoint` and `final_before_path_end`, where the path up to the read position leads to the other goal as well |
        | "origin" | the origin, in its own place and at the start of the path | `first_path_choice` (2 tokens), `origin_after_path_start` (1 token) |
        | "passage" | one passage of the adjacency list, in its place another: the same cells stay connected, trees stay trees, hallways hallways | as for "target" |

        `path_start`, `path_end` and `every_path_step` are refused, and so is every task of which no change can turn the
        answer; a function of your own may ask for one token of each maze. Mazes without such a counterfactual, in which
        the path up to the read position fits no other path for one, are left out: `pairs.info` says how many and why.

        Args:
            mazes: as in `prompts`; a maze's text has to be whole, with one token for each cell.
            task: one task, as in `prompts`.
            change: "target", "origin" or "passage".
            n_mazes: how many mazes are tried; default 100 where they are generated, else all that are given.
            seed: as in `prompts`, and of what is drawn among several counterfactuals, for each maze by itself.
            matched: whether both paths of a pair have to be as long.
            prepend_bos: as in `prompts`.
            padding: as in `prompts`.

        Raises:
            InputError: an unknown change or task, several tasks, one that the change does not go with (with the
                reason), or no maze that allows it.
            DatasetError: as `prompts`.
            PromptError: as `prompts`, and a text that is written in another form, naming the maze.
        """  # noqa: E501
        found = find_task_of_pairs(task, change)
        check_kind(matched, bool, "matched is True or False")
        seed = check_whole("seed", seed, 0, LARGEST_SEED)
        n_mazes = None if n_mazes is None else check_whole("n_mazes", n_mazes, 1)
        supply = maze_supply(mazes, self.vocabulary, self.dataset_config, n_mazes)
        return build_pairs(
            supply.tokens(0, supply.n_mazes, seed),
            self.vocabulary,
            found,
            change,
            matched,
            grid_n=self.grid_n,
            prepend_bos=self.prepend_bos if prepend_bos is None else prepend_bos,
            padding=padding,
            seed=seed,
            info={"seed": seed, "mazes": supply.origin(seed)},
        )

    def prompt_batches(
        self,
        mazes: Any = None,
        *,
        task: Tasks = "first_path_choice",
        n_mazes: int | None = None,
        seed: int = 0,
        prepend_bos: bool | None = None,
        batch_size: int = 1000,
        at_once: int | None = None,
    ) -> PromptBatches:
        """Prompts about any number of mazes, a batch of `batch_size` mazes after the other, each made when it is due.

        The first batch has the seed that was given, every later one a seed of its own, derived from that seed and the
        number of the batch; `batch.info["seed"]` names it, and `prompts` with it (and, where mazes are given, with
        that part of them) makes the same batch again. Generated batches are thus other mazes than those of one
        `prompts(n_mazes=...)`.

        Args:
            mazes, task, n_mazes, seed, prepend_bos: as in `prompts`; random tasks draw anew in each batch.
            batch_size: mazes in a batch; the last one may have fewer.
            at_once: the earlier name of `batch_size`.

        Raises:
            InputError: as `prompts`, and `batch_size` below 1; at the call, as far as it can be known before.
            DatasetError: a file that is no data set of mazes.
            PromptError: as `prompts`, when the batch is due; it counts mazes from the first of that batch.
        """
        tasks = find_tasks(task)
        seed = check_whole("seed", seed, 0, LARGEST_SEED)
        n_mazes = None if n_mazes is None else check_whole("n_mazes", n_mazes, 1)
        if at_once is not None:
            warnings.warn("at_once= is now called batch_size=", DeprecationWarning, stacklevel=2)
        batch_size = check_whole("batch_size", batch_size if at_once is None else at_once, 1)
        supply = maze_supply(mazes, self.vocabulary, self.dataset_config, n_mazes)

        def make(first: int, batch_seed: int) -> MazePromptBatch:
            stop = min(first + batch_size, supply.n_mazes)
            return self._batch(supply, first, stop, tasks, batch_seed, prepend_bos, None)

        return PromptBatches(make, supply.n_mazes, batch_size, seed)

    def with_passage(self, maze: Any, passage: Any, *, is_open: bool = True) -> Any:
        """A maze with one passage opened or closed by hand, and its shortest path: a `SolvedMaze` for `prompts`.

        Args:
            maze: a `SolvedMaze`, a drawing, or a maze's tokens with its path, such as `batch.text(0).tokens`.
            passage: two neighbouring cells, ((row, column), (row, column)).
            is_open: True opens it, False closes it.

        Raises:
            InputError: no maze, no two neighbouring cells of it, or a passage that is as wanted already.
            DatasetError: no way is left from origin to target.
        """
        return with_passage(maze, passage, is_open=is_open, grid_n=self.grid_n)

    @torch_defaults()
    def classes(self, batch: MazePromptBatch, by: str, *, passage: Any = None, balance: bool = True) -> PromptClasses:
        """The prompts of a batch in classes, for `maze_dla.separability`.

        | by | classes |
        | --- | --- |
        | "first_direction" | which way the first step of the path goes: up, down, left, right |
        | "distance" | steps to the target above or below their median; prompts at the median are left out |
        | "passage" | whether `passage` is open |
        | a column of the batch | its values, a class each |

        Most answers are partly told by trivial cues: the origin's cell by its place on the lattice, a passage by which
        cells the text names. `classes.cues()` says how well each column tells the class by itself.

        Args:
            batch: of `prompts`.
            by: what the classes are.
            passage: two neighbouring cells, ((row, column), (row, column)), where `by` is "passage".
            balance: whether all classes get as many prompts as the rarest has, by a hash of their mazes.

        Raises:
            InputError: no batch of mazes, an unknown question, a passage that is none or the same in all mazes, or
                fewer than two classes.
        """
        return maze_classes(batch, by, passage, balance=balance)

    @torch_defaults()
    def predict(self, batch: PromptBatch, k: int = 5) -> pd.DataFrame:
        """The `k` most likely next tokens of every prompt with their probabilities, as `maze_dla.predict` gives them.

        Raises:
            InputError: the batch does not fit the model, or k outside 1..vocabulary.
        """
        check_kind(batch, PromptBatch, "batch is a PromptBatch, such as that of maze.prompts()")
        with exclusive(self.model):
            return prediction_table(**predict(view(self.model), batch, k))

    def relations(self, batch: MazePromptBatch) -> Relations:
        """Which keys count for which queries of mazes, for `head_scores`.

        A query is a token that names a cell where the keys hang on its cell; keys stand before it.

        | relation | keys of a query |
        | --- | --- |
        | "first token", "previous token" | the first of all; the one before |
        | "same cell" | tokens of the query's cell |
        | "neighbour cells" | of the cells above, below, left and right of it on the lattice |
        | "connected cells" | of those that a passage connects with it, once the text has named the passage (adjacency heads) |
        | "neighbours behind walls" | of the other neighbours; queries after the adjacency list alone |
        | "target", "origin" | the token in its own place, for all queries after it |
        | "target's cell elsewhere", "origin's cell elsewhere" | all other tokens of that cell, for the same queries |
        | "<--> of own passages", "; of own passages" | connectors and separators of passages of the query's cell |

        Raises:
            InputError: something else than prompts about mazes.
        """  # noqa: E501
        return maze_relations(batch)

    def attention_by_distance(
        self, result: AttentionResult, batch: MazePromptBatch, query: Query = "read", distance: Measure = "maze"
    ) -> DistanceResult:
        """The attention that one query of each prompt pays to cells, by their distance from its cell.

        Cells that are near in the maze are near on the lattice too: compare both distances.

        Args:
            result: of `attention`.
            batch: the prompts that it was made of.
            query: the token at the "read" position, the "origin" or the "target" in their own places.
            distance: steps through the "maze", or rows and columns on the "lattice".

        Raises:
            InputError: something else than these, or an unknown query or distance.
            PromptError: a prompt whose query names no cell, as at the end of a path.
        """
        return attention_by_distance(result, batch, query, distance)

    @torch_defaults()
    def rollout(
        self,
        mazes: Any = None,
        *,
        n_mazes: int | None = None,
        seed: int = 0,
        n_samples: int = 1,
        temperature: float | None = None,
        max_steps: int | None = None,
        prepend_bos: bool | None = None,
        padding: Padding = None,
        sequences_at_once: int | None = None,
    ) -> RolloutResult:
        """Walks of the model by itself: does it solve mazes, and where does it first go wrong?

        The model reads the maze and the origin, and says one token after the other: the likeliest, or one that is
        drawn. A walk ends with `<PATH_END>`; it stays unfinished at the end of the model's context, or after
        `max_steps`. A prompt's walks are the same alone and in any batch, up to the rounding of logits.

        Args:
            mazes: as in `prompts`; or a batch of prompts about mazes, each of which is gone on from where it ends, at
                `<PATH_START>` or after it.
            n_mazes: as in `prompts`.
            seed: as in `prompts`, and of all that is drawn.
            n_samples: walks for each maze; more than one with a temperature alone.
            temperature: None takes the likeliest token each time; else tokens are drawn from
                softmax(logits / temperature), so that 1 is the model's own distribution.
            max_steps: the most tokens that a walk adds; None: up to the end of the context.
            prepend_bos, padding: as in `prompts`.
            sequences_at_once: how many mazes are walked together; changes speed, not numbers.

        Returns:
            A `RolloutResult`: `table` with one row a walk, `means` with intervals, and random walkers in the same
            mazes. `maze.prompts(rollout, task="first_wrong_step")` asks about its steps.

        Raises:
            InputError: as `prompts`, and numbers out of range; arguments of generated mazes beside a batch.
            DatasetError, PromptError: as `prompts`, and a maze whose text leaves no walk to be judged.
            ModelError: logits that are no numbers.
        """
        how = How(n_samples, temperature, max_steps, check_whole("seed", seed, 0, LARGEST_SEED), sequences_at_once)
        if isinstance(mazes, PromptBatch):
            refuse_beside_rollout("a batch", n_mazes=n_mazes, prepend_bos=prepend_bos, padding=padding)
            batch: Any = mazes
        else:
            batch = self.prompts(mazes, n_mazes=n_mazes, seed=seed, prepend_bos=prepend_bos, padding=padding)
        with exclusive(self.model):
            return roll_out(view(self.model), batch, how)

    @torch_defaults()
    def _batch(
        self,
        supply: MazeSupply,
        first: int,
        stop: int,
        tasks: Mapping[str, Task],
        seed: int,
        prepend_bos: bool | None,
        padding: Padding,
    ) -> MazePromptBatch:
        """The prompts about some of a supply's mazes."""
        return MazePromptBatch.build(
            supply.tokens(first, stop, seed),
            self.vocabulary,
            tasks,
            grid_n=self.grid_n,
            prepend_bos=self.prepend_bos if prepend_bos is None else prepend_bos,
            padding=padding,
            seed=seed,
            info={"task": ", ".join(tasks), "seed": seed, "mazes": supply.origin(seed)},
        )

    def __repr__(self) -> str:
        cfg = self.model.cfg
        return (
            f"MazeModel({self.info.get('model')!r}: {cfg.n_layers} layers, {cfg.n_heads} heads, d_model {cfg.d_model}, "
            f"{len(self.vocabulary.tokens)} tokens, {self.grid_n}x{self.grid_n} mazes)"
        )
