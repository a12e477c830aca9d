"""The script that trains the bundled checkpoint: its data, its shared prefixes, its resumption, its file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import maze_dla as dla
from maze_dla.adapters.mazes.lattice import MazeText
from maze_dla.adapters.mazes.library import legacy_tokenizer
from maze_dla.cli import main
from maze_dla.training.mazes.batches import Vocabulary, make_batch
from maze_dla.training.mazes.corridors import (
    CorridorPool,
    corridor_cells,
    generate_corridors,
    is_held_out,
    symmetries,
)
from maze_dla.training.mazes.decoder import Decoder, DecoderConfig
from maze_dla.training.mazes.held_out import held_out_mazes
from maze_dla.training.mazes.loop import TrainingPlan, TrainingState, batch_loss, train
from maze_dla.training.mazes.run import train_bundled
from maze_dla.training.mazes.save import save_checkpoint

GRID_N = 5
PLAN = TrainingPlan(steps=4, mazes=4, whole_paths=1, first_steps=2, measure_every=2, warm_up=2)


@pytest.fixture(scope="module")
def tokens():
    return list(legacy_tokenizer("AOTP_UT_uniform", GRID_N).token_arr)


@pytest.fixture(scope="module")
def vocab(tokens):
    return Vocabulary.from_tokens(tokens, GRID_N)


@pytest.fixture(scope="module")
def pool():
    return CorridorPool.group(generate_corridors(200, GRID_N, seed=0))


def small_decoder(tokens, seed=0):
    torch.manual_seed(seed)
    return Decoder(DecoderConfig(n_layers=2, d_model=16, d_head=4, d_vocab=len(tokens), n_ctx=160))


def test_corridors_are_paths_without_branches(pool):
    for length, corridors in pool.by_length.items():
        rows, columns = np.divmod(corridors, GRID_N)
        steps = abs(np.diff(rows)) + abs(np.diff(columns))
        assert (steps == 1).all()
        assert all(len(set(c)) == length for c in corridors.tolist())


def test_held_out_corridors_are_so_in_every_orientation(pool):
    tables = symmetries(GRID_N)
    corridors = [tuple(c) for cells in pool.by_length.values() for c in cells.tolist()]
    held_out = [is_held_out(c, tables) for c in corridors]
    assert 0.02 < sum(held_out) / len(held_out) < 0.25
    for cells, held in list(zip(corridors, held_out, strict=True))[:40]:
        for table in tables:
            turned = tuple(table[list(cells)])
            assert is_held_out(turned, tables) == is_held_out(turned[::-1], tables) == held


def test_held_out_mazes_come_from_the_held_out_tenth():
    maze = dla.load_maze_model()
    tables = symmetries(maze.grid_n)
    for text in held_out_mazes(maze, 20, seed=5):
        ends = MazeText(tuple(text))
        passages = ends.passages
        lattice = type("Maze", (), {})()
        lattice.connection_list = np.zeros((2, maze.grid_n, maze.grid_n), dtype=bool)
        for (row, column), (to_row, _) in passages:
            lattice.connection_list[0 if to_row > row else 1, row, column] = True
        cells = [c for passage in passages for c in passage]
        lattice.generation_meta = {"start_coord": next(c for c in cells if cells.count(c) == 1)}
        assert is_held_out(corridor_cells(lattice), tables)


def test_pairs_that_share_a_list_are_as_if_each_stood_alone(pool, vocab, tokens):
    rng = np.random.default_rng(0)
    batch = make_batch(pool.sample(3, rng, symmetries(GRID_N)), vocab, rng, n_whole=2, n_short=3)
    model = small_decoder(tokens)
    together = model(batch.tokens, batch.positions, batch.visible)
    prefix = int((batch.tokens[0] == vocab.ids["<ADJLIST_END>"]).nonzero()[0, 0]) + 1
    starts = (batch.tokens[0] == vocab.ids["<ORIGIN_START>"]).nonzero()[:, 0].tolist()
    for start, stop in zip(starts, [*starts[1:], batch.tokens.shape[1]], strict=True):
        alone = torch.cat([batch.tokens[:, :prefix], batch.tokens[:, start:stop]], 1)
        n = alone.shape[1]
        logits = model(alone, torch.arange(n), torch.ones(n, n, dtype=torch.bool).tril())
        torch.testing.assert_close(logits[:, prefix:], together[:, start:stop], atol=1e-5, rtol=1e-5)
        following = batch.targets[:, start : stop - 1]
        assert torch.equal(following, alone[:, prefix + 1 :])


def test_a_path_in_a_batch_is_the_way_from_origin_to_target(pool, vocab, tokens):
    rng = np.random.default_rng(1)
    batch = make_batch(pool.sample(5, rng, symmetries(GRID_N)), vocab, rng, n_whole=1, n_short=0)
    for row in batch.tokens.tolist():
        text = [tokens[t] for t in row]
        maze = MazeText(tuple(text[1:]))
        assert text[:2] == ["<ADJLIST_START>"] * 2
        origin, target = text[text.index("<ORIGIN_START>") + 1], text[text.index("<TARGET_START>") + 1]
        assert [f"({r},{c})" for r, c in (maze.path[0], maze.path[-1])] == [origin, target]
        assert all((min(a, b), max(a, b)) in maze.passages for a, b in zip(maze.path, maze.path[1:], strict=False))
        assert text[-1] == "<PATH_END>"


def test_training_that_was_stopped_goes_on_as_if_it_had_not_been(pool, vocab, tokens, tmp_path):
    straight = TrainingState.start(small_decoder(tokens), PLAN)
    list(train(straight, PLAN, (pool, pool), vocab, GRID_N))
    first = TrainingState.start(small_decoder(tokens), PLAN)
    for _ in train(first, PLAN, (pool, pool), vocab, GRID_N):
        first.save(tmp_path / "state.pt")
        break
    second = TrainingState.start(small_decoder(tokens, seed=1), PLAN)
    second.restore(tmp_path / "state.pt")
    assert second.step == 2
    list(train(second, PLAN, (pool, pool), vocab, GRID_N))
    for a, b in zip(straight.model.parameters(), second.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_few_steps_lower_the_loss(pool, vocab, tokens):
    plan = TrainingPlan(steps=30, mazes=8, first_steps=2, measure_every=30, warm_up=2)
    state = TrainingState.start(small_decoder(tokens), plan)
    rng = np.random.default_rng(2)
    batch = make_batch(pool.sample(8, rng, symmetries(GRID_N)), vocab, rng, n_whole=1, n_short=2)
    before = batch_loss(state.model, batch).item()
    list(train(state, plan, (pool, pool), vocab, GRID_N))
    assert batch_loss(state.model, batch).item() < before - 0.3


def test_a_saved_checkpoint_is_the_trained_model(tokens, tmp_path):
    model = small_decoder(tokens)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    path = tmp_path / "saved.zanj"
    save_checkpoint(model, tokens, GRID_N, PLAN, {"loss": 1.0}, path)
    loaded = dla.load_maze_model(path)
    ids = torch.randint(len(tokens), (3, 40), generator=torch.Generator().manual_seed(0))
    expected = model(ids, torch.arange(40), torch.ones(40, 40, dtype=torch.bool).tril())
    torch.testing.assert_close(loaded.model(ids), expected, atol=1e-4, rtol=1e-4)


def test_the_whole_run_in_a_folder(tmp_path):
    plan = TrainingPlan(steps=3, mazes=2, first_steps=1, measure_every=2, warm_up=1, keep_at=(2,))
    measured = list(train_bundled(tmp_path, plan, n_corridors=150))
    assert [m["step"] for m in measured] == [2, 3]
    assert {p.name for p in tmp_path.glob("*.zanj")} == {"step_00002.zanj", "step_00003.zanj"}
    assert dla.load_maze_model(tmp_path / "step_00003.zanj").model.cfg.n_layers == 6
    assert list(train_bundled(tmp_path, plan, n_corridors=150)) == []  # it goes on where it stopped: at the end


def test_the_command_refuses_what_cannot_be(tmp_path, capsys):
    assert main(["train", "--out", str(tmp_path), "--steps", "0"]) == 2
    assert capsys.readouterr().err == "maze-dla: error: steps is at least 1, got 0\n"
