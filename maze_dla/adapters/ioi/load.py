"""GPT-2 models as TransformerLens models, checked against Hugging Face's own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.adapters.ioi.sources import BUNDLED, GPT2_SMALL, GPT2Source, find_gpt2
from maze_dla.adapters.ioi.weights import EMBEDDING, HEAD, State, check_weights, read_folder, read_json, read_weights
from maze_dla.adapters.transformer_lens.build import check_placement
from maze_dla.adapters.transformer_lens.hugging_face import from_hugging_face
from maze_dla.errors import CheckpointError, ModelError

HEADS = {768: 12, 1024: 16, 1280: 20, 1600: 25}  # of each of GPT-2's widths
TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
LARGEST_DIFFERENCE = 1e-2  # logits, between Hugging Face's model on the CPU and what is returned
SELF_CHECK_TOKENS = 12


def load_gpt2(
    source: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    *,
    architecture: str | Path | None = None,
) -> Any:
    """Load a GPT-2 model as a model of TransformerLens (a `TransformerBridge`, before version 3 a `HookedTransformer`).

    Weights are as stored: nothing is folded or centred.

    Before it is returned its logits on one prompt are compared with those of Hugging Face's model on the CPU, in
    float32: on some devices (mps) they are known to come out wrong.

    Args:
        source: a name (`gpt2-small`, `gpt2`, `gpt2-medium`, `gpt2-large`, `gpt2-xl`, `distilgpt2`, or a hub repository
            `owner/name`), which is looked up on this machine before the hub is asked; a Hugging Face folder; or a
            checkpoint of torch or safetensors (`model_state_dict`, keys with `_orig_mod.` or `module.` in front, head
            tied or not). "bundled" is the tiny IOI model that comes with maze_dla. None takes gpt2-small where it is
            on this machine and else the bundled one: `model.cfg.model_name` says which.
        device, dtype: where to put it and in what precision; default the CPU and float32.
        architecture: a folder with `config.json` and the tokenizer's files, for a checkpoint that has none beside it;
            by default a checkpoint of one of GPT-2's widths is taken as GPT-2.

    Raises:
        InputError: no model's name, or a device or dtype that cannot be used.
        CheckpointError: files that are missing, damaged or of another architecture; every key at fault is named.
        ModelError: logits that differ from those on the CPU by more than 1e-2.
    """
    check_placement(device, dtype)
    found = find_gpt2(source)
    config_folder = _config_folder(found, architecture)
    state = read_folder(found.path) if found.is_folder else read_weights(found.path)
    config = _config(config_folder, state, found.path)
    tokenizer = _tokenizer(config_folder or _folder_of_gpt2(config))
    with torch.random.fork_rng(devices=[]):  # the first weights are random, and at once replaced
        model = _model(config, state, found.path)
        expected = self_check_logits(model)
        bridge = from_hugging_face(model, tokenizer, found.name)
    if device is not None:
        bridge = bridge.to(device)
    check_logits(bridge, expected)
    bridge.provenance = {"checkpoint": _file_name(found), "sha256": _sha256(found.weights)}  # for results to carry
    return bridge if dtype is None else bridge.to(dtype)


def self_check_logits(model: Any) -> Float[Tensor, "position vocab"]:
    """A causal language model's logits on one prompt of many different tokens, on the CPU."""
    with torch.no_grad():
        logits = model(_self_check_tokens(model.config.n_positions, model.config.vocab_size)).logits
    return logits[0].float().cpu()


def check_logits(bridge: Any, expected: Float[Tensor, "position vocab"]) -> None:
    """Refuse a model whose logits are not those expected.

    Raises:
        ModelError: naming the device and the largest difference.
    """
    tokens = _self_check_tokens(len(expected), expected.shape[1]).to(bridge.W_U.device)
    with torch.no_grad():
        logits = bridge(tokens)[0].float().cpu()
    difference = float((logits - expected).abs().max())
    if not difference <= LARGEST_DIFFERENCE:
        raise ModelError(
            f"on {bridge.W_U.device} the model's logits differ by up to {difference:.2g} from those of Hugging Face's "
            f"own on the CPU (at most {LARGEST_DIFFERENCE}): they cannot be trusted, load it on another device"
        )


def _self_check_tokens(n_positions: int, d_vocab: int) -> Tensor:
    """One prompt whose tokens lie all over the vocabulary."""
    return (torch.arange(min(n_positions, SELF_CHECK_TOKENS)) * 7919 + 17)[None] % d_vocab


def _config_folder(found: GPT2Source, architecture: str | Path | None) -> Path | None:
    """The folder with config.json: the model's own, the one that was asked for, or the checkpoint's."""
    if found.is_folder or architecture is None:
        folder = found.path if found.is_folder else found.path.parent
    else:
        folder = find_gpt2(architecture).path
    if (folder / "config.json").is_file():
        return folder
    if found.is_folder or architecture is not None:
        inside = (
            ", ".join(sorted(p.name for p in folder.iterdir())[:6]) or "nothing" if folder.is_dir() else "no folder"
        )
        raise CheckpointError(f"{folder}: a model's folder has config.json, this one holds {inside}")
    return None


def _config(folder: Path | None, state: State, file: Path) -> Any:
    """The architecture: from config.json, or GPT-2's own for a checkpoint of one of its widths."""
    from transformers import GPT2Config

    if folder is not None:
        content = read_json(folder / "config.json")
        if content.get("model_type") != "gpt2":
            raise CheckpointError(
                f"{folder / 'config.json'}: model_type {content.get('model_type')!r}, expected 'gpt2'"
            )
        return GPT2Config(**content)
    if EMBEDDING not in state or "transformer.wpe.weight" not in state:
        raise CheckpointError(
            f"{file}: no GPT-2 checkpoint, {EMBEDDING} is missing; it holds {', '.join(list(state)[:4])}"
        )
    d_vocab, width = state[EMBEDDING].shape
    if width not in HEADS:
        raise CheckpointError(
            f"{file}: width {width} is none of GPT-2's ({', '.join(map(str, HEADS))}), so its number of heads is not "
            "known: put config.json beside it, or name a folder that has one with architecture="
        )
    n_layers = len({key.split(".")[2] for key in state if key.startswith("transformer.h.")})
    n_ctx = len(state["transformer.wpe.weight"])
    return GPT2Config(vocab_size=d_vocab, n_positions=n_ctx, n_embd=width, n_layer=n_layers, n_head=HEADS[width])


def _model(config: Any, state: State, file: Path) -> Any:
    """Hugging Face's model with these weights, on the CPU in float32."""
    from transformers import GPT2LMHeadModel

    head = state.pop(HEAD, None)
    tied = (
        torch.equal(head, state[EMBEDDING]) if head is not None and EMBEDDING in state else config.tie_word_embeddings
    )
    config.tie_word_embeddings = tied
    model = GPT2LMHeadModel(config).float()
    if head is not None or tied:
        state[HEAD] = state.get(EMBEDDING, torch.empty(0)) if head is None else head
    check_weights(state, model.state_dict(), file)
    model.load_state_dict(state, strict=True)
    return model.eval()


def _file_name(found: GPT2Source) -> str:
    return found.weights.name if found.path == BUNDLED else f"{found.weights.parent.name}/{found.weights.name}"


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while piece := content.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def _folder_of_gpt2(config: Any) -> Path | None:
    """Where GPT-2's tokenizer is, for a checkpoint that has none beside it."""
    found = find_gpt2(None)
    return found.path if config.vocab_size == 50257 and found.name == GPT2_SMALL else None


def _tokenizer(folder: Path | None) -> Any:
    if folder is None or not any((folder / file).is_file() for file in TOKENIZER_FILES):
        return None
    from transformers import GPT2TokenizerFast  # pyright: ignore[reportAttributeAccessIssue] (a lazy module)

    try:
        return GPT2TokenizerFast.from_pretrained(str(folder))
    except Exception as problem:  # the tokenizers library raises plain exceptions
        raise CheckpointError(f"{folder}: the tokenizer cannot be read ({str(problem).splitlines()[0]})") from problem
