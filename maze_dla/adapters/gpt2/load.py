"""GPT-2 models as TransformerLens models, checked against Hugging Face's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.adapters.gpt2.architecture import build_gpt2, config_of, foreign_errors
from maze_dla.adapters.gpt2.sources import BUNDLED, GPT2_SMALL, GPT2Location, locate_gpt2
from maze_dla.adapters.gpt2.tokenizer import read_tokenizer
from maze_dla.adapters.gpt2.weights import read_checkpoint, read_folder, some, weight_files
from maze_dla.adapters.transformer_lens.build import check_placement
from maze_dla.adapters.transformer_lens.hugging_face import from_hugging_face
from maze_dla.adapters.transformer_lens.identity import set_provenance
from maze_dla.errors import CheckpointError, ModelError
from maze_dla.files.boundary import reading
from maze_dla.results.torch_defaults import torch_defaults

LARGEST_DIFFERENCE = 1e-2  # logits, between Hugging Face's model on the CPU and what is returned
SELF_CHECK_TOKENS = 12
GPT2_SIZES = {  # layers and width of each name
    GPT2_SMALL: (12, 768),
    "gpt2-medium": (24, 1024),
    "gpt2-large": (36, 1280),
    "gpt2-xl": (48, 1600),
    "distilgpt2": (6, 768),
}


@torch_defaults()
def load_gpt2(
    source: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    *,
    architecture: str | Path | None = None,
) -> Any:
    """Load a GPT-2 model as a model of TransformerLens (a `TransformerBridge`, before version 3 a `HookedTransformer`).

    Weights are as stored: nothing is folded or centred. Before the model is returned its logits on one prompt are
    compared with those of Hugging Face's model on the CPU, in float32: on some devices (mps) they are known to come
    out wrong.

    Args:
        source: a name (`gpt2-small`, `gpt2`, `gpt2-medium`, `gpt2-large`, `gpt2-xl`, `distilgpt2`, or a hub repository
            `owner/name`), which is looked up on this machine before the hub is asked; a Hugging Face folder; or a
            checkpoint of torch or safetensors (`model_state_dict`, keys with `_orig_mod.` or `module.` in front, head
            tied or not). "bundled" is the tiny IOI model that comes with maze_dla. None takes gpt2-small where it is
            on this machine and else the bundled one: `model.cfg.model_name` says which.
        device, dtype: where to put it and in what precision; default the CPU and float32.
        architecture: a folder with `config.json` and the tokenizer's files, for a checkpoint that has none beside it;
            by default the config inside the checkpoint is believed, where there is one, and without any a checkpoint
            of one of GPT-2's widths is taken as GPT-2.

    Raises:
        InputError: no model's name, or a device or dtype that cannot be used.
        CheckpointError: files that are missing, damaged, of another architecture, or that contradict each other; the
            keys at fault are named, of many the first ones and their number.
        ModelError: logits that differ from Hugging Face's own by more than 1e-2.
    """
    check_placement(device, dtype)
    found = locate_gpt2(source)
    with reading(found.path, CheckpointError):
        config_folder = _config_folder(found, architecture)
        state, inside = (read_folder(found.path), {}) if found.is_folder else read_checkpoint(found.path)
        config = config_of(state, found.path, inside, config_folder and config_folder / "config.json")
        tokenizer_folder = config_folder or _folder_of_gpt2(config)
        tokenizer = None if tokenizer_folder is None else read_tokenizer(tokenizer_folder)
        file_name = _file_name(found)
    with torch.random.fork_rng(devices=[]):  # the first weights are random, and at once replaced
        model = build_gpt2(config, state, found.path)
        with foreign_errors(f"{found.path}: it cannot be run as a model"):  # an odd architecture or tokenizer
            expected = self_check_logits(model)
            model = from_hugging_face(model, tokenizer, _name(found, config))
    check_logits(model, expected, "this version of TransformerLens does not compute what the architecture asks for")
    if device is not None:
        model = model.to(device, print_details=False)
        check_logits(model, expected, "this device cannot be trusted with it, load the model on another")
    model = model if dtype is None else model.to(dtype, print_details=False)
    set_provenance(model, model.cfg.model_name, file_name)
    return model


def self_check_logits(model: Any) -> Float[Tensor, "position vocab"]:
    """A causal language model's logits on one prompt of many different tokens, on the CPU."""
    with torch.no_grad():
        logits = model(_self_check_tokens(model.config.n_positions, model.config.vocab_size)).logits
    return logits[0].float().cpu()


def check_logits(model: Any, expected: Float[Tensor, "position vocab"], conclusion: str) -> None:
    """Refuse a model whose logits are not those expected.

    Raises:
        ModelError: naming the device, the largest difference and what to conclude.
    """
    tokens = _self_check_tokens(len(expected), expected.shape[1]).to(model.W_U.device)
    with torch.no_grad():
        logits = model(tokens)[0].float().cpu()
    difference = float((logits - expected).abs().max())
    if not difference <= LARGEST_DIFFERENCE:
        raise ModelError(
            f"on {model.W_U.device} the model's logits differ by up to {difference:.2g} from those of Hugging Face's "
            f"own on the CPU (at most {LARGEST_DIFFERENCE}): {conclusion}"
        )


def _self_check_tokens(n_positions: int, d_vocab: int) -> Tensor:
    """One prompt whose tokens lie all over the vocabulary."""
    return (torch.arange(min(n_positions, SELF_CHECK_TOKENS)) * 7919 + 17)[None] % d_vocab


def _name(found: GPT2Location, config: Any) -> str:
    """The model's name in results; a name that stands for other sizes is not taken on trust."""
    sizes = (config.n_layer, config.n_embd)
    if GPT2_SIZES.get(found.name, sizes) == sizes:
        return found.name
    return f"{found.path.name} ({sizes[0]} layers of width {sizes[1]}, not {found.name})"


def _config_folder(found: GPT2Location, architecture: str | Path | None) -> Path | None:
    """The folder with config.json: the model's own, the one that was asked for, or the checkpoint's."""
    if found.is_folder or architecture is None:
        folder = found.path if found.is_folder else found.path.parent
    else:
        folder = locate_gpt2(architecture).path
    if (folder / "config.json").is_file():
        return folder
    if found.is_folder or architecture is not None:
        inside = some(sorted(p.name for p in folder.iterdir()), 6) if folder.is_dir() else "no folder"
        raise CheckpointError(f"{folder}: a model's folder has config.json, this one holds {inside or 'nothing'}")
    return None


def _file_name(found: GPT2Location) -> str:
    file = _files(found)[0]
    return file.name if found.path == BUNDLED else f"{file.parent.name}/{file.name}"


def _files(found: GPT2Location) -> list[Path]:
    return weight_files(found.path) if found.is_folder else [found.path]


def _folder_of_gpt2(config: Any) -> Path | None:
    """Where GPT-2's tokenizer is, for a checkpoint that has none beside it."""
    found = locate_gpt2(None)
    return found.path if config.vocab_size == 50257 and found.name == GPT2_SMALL else None
