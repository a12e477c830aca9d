"""Writing a trained model in the layout of maze-transformer's `ZanjHookedTransformer`."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maze_dla.files import drafted
from maze_dla.files.zanj_file import MAIN, NEW_KEY, OLD_KEY
from maze_dla.training.mazes.decoder import Decoder
from maze_dla.training.mazes.loop import TrainingPlan

META = "__zanj_meta__.json"


def save_checkpoint(
    model: Decoder, tokens: list[str], grid_n: int, plan: TrainingPlan, records: Mapping[str, Any], path: Path
) -> None:
    """Write the model so that maze-transformer, maze_dla and zanj of any version read it.

    zanj serialises; afterwards each format name stands under both the old key and the new one, and what zanj notes
    of the computer that it ran on is left out.

    Raises:
        InputError: the file cannot be written; one of its name is as it was.
    """
    from zanj import ZANJ

    state = model.tl_state_dict()
    content = {
        "zanj_model_config": _config(model, tokens, grid_n, plan),
        "meta": {"class_name": "ZanjHookedTransformer", "num_params": sum(p.numel() for p in model.parameters())},
        "training_records": {"plan": asdict(plan), **records},
        "state_dict": state,
        NEW_KEY: "ZanjHookedTransformer",
    }
    with drafted(path) as finished:
        raw = finished.with_name("raw.zanj")
        ZANJ().save(content, str(raw))
        with zipfile.ZipFile(raw) as source, zipfile.ZipFile(finished, "w") as out:
            for name in source.namelist():
                data = _finished(name, source.read(name))
                out.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED, compresslevel=9)


def _finished(name: str, data: bytes) -> bytes:
    if name == MAIN:
        return json.dumps(_both_keys(json.loads(data))).encode()
    if name == META:
        return json.dumps({k: v for k, v in json.loads(data).items() if k == "externals_info"}).encode()
    return data


def _config(model: Decoder, tokens: list[str], grid_n: int, plan: TrainingPlan) -> dict[str, Any]:
    cfg = model.cfg
    return {
        NEW_KEY: "ConfigHolder(SerializableDataclass)",
        "name": f"hallway-{grid_n}x{grid_n}",
        "dataset_cfg": _dataset_config(grid_n, cfg.n_ctx, plan.seed),
        "model_cfg": {
            NEW_KEY: "BaseGPTConfig(SerializableDataclass)",
            "name": f"l{cfg.n_layers}-d{cfg.d_model}",
            "act_fn": "gelu",
            "d_model": cfg.d_model,
            "d_head": cfg.d_head,
            "n_layers": cfg.n_layers,
            "positional_embedding_type": "standard",
            "weight_processing": {"are_layernorms_folded": False, "are_weights_processed": False},
        },
        "train_cfg": {
            NEW_KEY: "TrainConfig(SerializableDataclass)",
            "name": "maze_dla-bundled",
            "evals_max_new_tokens": 8,
            "validation_dataset_cfg": None,
            "optimizer": "AdamW",
            "optimizer_kwargs": {"lr": plan.learning_rate},
            "batch_size": plan.mazes,
            "dataloader_cfg": {},
            "intervals": None,
            "intervals_count": None,
        },
        "pretrainedtokenizer_kwargs": None,
        "maze_tokenizer": {
            NEW_KEY: "MazeTokenizer(SerializableDataclass)",
            "tokenization_mode": "AOTP_UT_uniform",
            "max_grid_size": grid_n,
            "token_arr": tokens,
            "vocab_size": len(tokens),
        },
        "_tokenizer": "None",
    }


def _dataset_config(grid_n: int, n_ctx: int, seed: int) -> dict[str, Any]:
    return {
        NEW_KEY: "MazeDatasetConfig(SerializableDataclass)",
        "name": "hallway",
        "seq_len_min": 1,
        "seq_len_max": n_ctx,
        "seed": seed,
        "applied_filters": [],
        "grid_n": grid_n,
        "n_mazes": 10_000,
        "maze_ctor": {"__name__": "gen_dfs", "__module__": "maze_dataset.generation.generators"},
        "maze_ctor_kwargs": {"do_forks": False},
        "endpoint_kwargs": {},
        "grid_shape": [grid_n, grid_n],
    }


def _both_keys(item: Any) -> Any:
    if isinstance(item, list):
        return [_both_keys(v) for v in item]
    if not isinstance(item, dict):
        return item
    renamed = {k: _both_keys(v) for k, v in item.items()}
    return renamed | ({OLD_KEY: renamed[NEW_KEY]} if NEW_KEY in renamed else {})
