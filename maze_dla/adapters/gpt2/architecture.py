"""GPT-2's architecture: from a config.json, or from the shapes of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from maze_dla.adapters.gpt2.weights import EMBEDDING, HEAD, State, check_weights, read_json, read_state, some
from maze_dla.errors import CheckpointError, MazeDlaError, is_panic, shortened, whole_number

HEADS = {768: 12, 1024: 16, 1280: 20, 1600: 25}  # of each of GPT-2's widths
SIZES = ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size")
MOST_LAYERS = 1000
LARGEST_SIZE = 2**48
SWITCHES = (
    "tie_word_embeddings",
    "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx",
    "reorder_and_upcast_attn",
)
OPTIONS = ("n_inner", "activation_function", "layer_norm_epsilon", "bos_token_id", "eos_token_id", *SWITCHES)
ALIASES = {  # of other training code
    "block_size": "n_positions", "n_ctx": "n_positions", "n_heads": "n_head", "n_layers": "n_layer",
    "d_model": "n_embd", "d_vocab": "vocab_size",
}  # fmt: skip
POSITIONS = "transformer.wpe.weight"


def read_config(file: Path) -> dict[str, Any]:
    """The sizes and settings of GPT-2 in a config.json; all else in it is left unread.

    Raises:
        CheckpointError: missing, no JSON object, or of another kind of model.
    """
    content = read_json(file)
    if content.get("model_type") != "gpt2":
        raise CheckpointError(f"{file}: model_type {content.get('model_type')!r:.80}, expected 'gpt2'")
    return {name: content[name] for name in (*SIZES, *OPTIONS) if name in content}


def config_of(state: State, file: Path, inside: dict[str, Any], config_file: Path | None) -> Any:
    """The architecture of a checkpoint: what config.json and the config saved inside say, else what its shapes say.

    Args:
        state: the weights.
        file: where they come from.
        inside: the training's config beside the weights in the same file, under the names of GPT-2's config or those
            that other training code has for them; of no use where it does not say how many heads there are.
        config_file: the config.json, where there is one.

    Raises:
        CheckpointError: two of them that contradict each other, naming both; a size that is missing or no size; no
            GPT-2, or a width whose number of heads is not known.
    """
    said = {ALIASES.get(name, name): value for name, value in inside.items()}
    said = {name: said[name] for name in (*SIZES, *OPTIONS) if name in said and said[name] is not None}
    if config_file is not None:
        sizes, source, described = read_config(config_file), config_file, f"{config_file}"
    elif "n_head" in said:
        shapes = _sizes_of_shapes(state, file)
        sizes, source, described = shapes, file, "the shapes of the weights"
    else:
        return config_of_shapes(state, file)
    if apart := [name for name in said if "n_head" in said and name in sizes and sizes[name] != said[name]]:
        differ = ", ".join(f"{name} is {said[name]!r:.60} and {sizes[name]!r:.60}" for name in apart)
        raise CheckpointError(f"{file}: the config inside contradicts {described}: {differ}")
    return _checked_config({**(said if "n_head" in said else {}), **sizes}, source)


def _checked_config(content: dict[str, Any], file: Path) -> Any:
    sizes: dict[str, Any] = {name: content.get(name) for name in SIZES}
    if wrong := {k: v for k, v in sizes.items() if not 1 <= (whole_number(v) or 0) <= LARGEST_SIZE}:
        said = ", ".join(f"{k} is {v!r:.60}" if k in content else f"{k} is missing" for k, v in wrong.items())
        raise CheckpointError(f"{file}: {said}; expected whole numbers of at least 1 and at most {LARGEST_SIZE}")
    if sizes["n_embd"] % sizes["n_head"] or sizes["n_layer"] > MOST_LAYERS:
        raise CheckpointError(
            f"{file}: {sizes['n_layer']} layers of {sizes['n_head']} heads in width {sizes['n_embd']}, expected at "
            f"most {MOST_LAYERS} layers and a width that the number of heads divides"
        )
    epsilon = content.get("layer_norm_epsilon", 1e-5)
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < LARGEST_SIZE:
        raise CheckpointError(f"{file}: layer_norm_epsilon is {epsilon!r:.60}, expected a number above 0")
    _check_options(content, file)
    return _config(content, file)


def _check_options(content: dict[str, Any], file: Path) -> None:
    """Refuse settings that are of another kind than GPT-2's config has them."""
    hidden = content.get("n_inner")
    if hidden is not None and not 1 <= (whole_number(hidden) or 0) <= LARGEST_SIZE:
        raise CheckpointError(f"{file}: n_inner is {hidden!r:.60}, expected a whole number of at least 1, or null")
    for name in SWITCHES:
        if not isinstance(content.get(name, False), bool):
            raise CheckpointError(f"{file}: {name} is {content[name]!r:.60}, expected true or false")
    for name in ("bos_token_id", "eos_token_id"):
        if (token := content.get(name)) is not None and not 0 <= (
            -1 if (n := whole_number(token)) is None else n
        ) < 2**31:
            raise CheckpointError(f"{file}: {name} is {token!r:.60}, expected a token's number, or null")
    if not isinstance(activation := content.get("activation_function", ""), str):
        raise CheckpointError(f"{file}: activation_function is {activation!r:.60}, expected a function's name")


def config_of_shapes(state: State, file: Path) -> Any:
    """The architecture of a checkpoint of one of GPT-2's widths.

    Raises:
        CheckpointError: no GPT-2, or a width whose number of heads is not known.
    """
    sizes = _sizes_of_shapes(state, file)
    width = sizes["n_embd"]
    if width not in HEADS:
        raise CheckpointError(
            f"{file}: width {width} is none of GPT-2's ({', '.join(map(str, HEADS))}), so its number of heads is not "
            "known: put config.json beside it, or name a folder that has one with architecture="
        )
    return _config({**sizes, "n_head": HEADS[width]}, file)


def _sizes_of_shapes(state: State, file: Path) -> dict[str, Any]:
    """All sizes but the number of heads, which is in no shape."""
    for key in (EMBEDDING, POSITIONS):
        if key not in state or state[key].ndim != 2:
            raise CheckpointError(
                f"{file}: no GPT-2 checkpoint, {key} is missing or no matrix; it holds {some(state, 4)}"
            )
    d_vocab, width = state[EMBEDDING].shape
    n_layers = len({key.split(".")[2] for key in state if key.startswith("transformer.h.")})
    return {"n_layer": n_layers, "n_embd": width, "n_positions": state[POSITIONS].shape[0], "vocab_size": d_vocab}


def build_gpt2(config: Any, state: State, file: Path) -> Any:
    """Hugging Face's model with these weights, on the CPU in float32.

    Raises:
        CheckpointError: weights that are not those of the architecture, keys at fault named; nothing is read or built
            before names and shapes are known to fit.
    """
    from transformers import GPT2LMHeadModel

    tied = config.tie_word_embeddings and HEAD not in state and EMBEDDING in state
    check_weights({**state, HEAD: state[EMBEDDING]} if tied else state, expected_shapes(config), file)
    weights = read_state(state, file)
    config.tie_word_embeddings = tied or torch.equal(weights[HEAD], weights[EMBEDDING])
    with foreign_errors(f"{file}: no GPT-2 can be built from its config"):  # whatever an odd option leads to
        model = GPT2LMHeadModel(config).float()
    model.set_attn_implementation("eager")  # the only one that shows patterns and heeds every setting of the config
    model.load_state_dict({**weights, HEAD: weights[EMBEDDING]} if tied else weights, strict=True)
    return model.eval()


def expected_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a GPT-2's weights, without building one."""
    width, hidden = config.n_embd, config.n_inner or 4 * config.n_embd
    norm, matrices = ("ln_1", "ln_2"), {
        "attn.c_attn": (width, 3 * width), "attn.c_proj": (width, width),
        "mlp.c_fc": (width, hidden), "mlp.c_proj": (hidden, width),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (config.vocab_size, width), POSITIONS: (config.n_positions, width)}
    for layer in range(config.n_layer):
        block = f"transformer.h.{layer}"
        shapes |= {f"{block}.{name}.{what}": (width,) for name in norm for what in ("weight", "bias")}
        shapes |= {f"{block}.{name}.weight": shape for name, shape in matrices.items()}
        shapes |= {f"{block}.{name}.bias": shape[1:] for name, shape in matrices.items()}
    return shapes | {"transformer.ln_f.weight": (width,), "transformer.ln_f.bias": (width,), HEAD: shapes[EMBEDDING]}


def _config(content: dict[str, Any], file: Path) -> Any:
    from transformers import GPT2Config

    with foreign_errors(f"{file}: no architecture of GPT-2"):  # its checks raise errors of their own
        return GPT2Config(**content)


@contextmanager
def foreign_errors(what: str) -> Iterator[None]:
    """Errors of other libraries, of whatever kind, as errors of a checkpoint.

    Raises:
        CheckpointError: what was wrong, and the other error's kind and message on one line, cut where it is long.
    """
    try:
        yield
    except MazeDlaError:
        raise
    except BaseException as problem:
        if not isinstance(problem, Exception) and not is_panic(problem):
            raise
        said = shortened(" ".join(shortened(problem, 2000).split()), 400)
        raise CheckpointError(f"{what} ({type(problem).__name__}: {said})") from problem
