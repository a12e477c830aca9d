"""Which model it is: a name and a file that travel with the model object, and a hash of its weights' values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maze_dla.adapters.transformer_lens.architecture import is_pre_norm_decoder
from maze_dla.errors import visible

ATTRIBUTE = "provenance"
SHORT = 16  # digits
CHUNK = 1 << 20  # numbers turned into doubles at a time
ROW, BYTES = 1024, 8  # bit patterns are summed so many at a time, as integers of so many bytes
NORMS = ("ln1", "ln2")
ATTENTION = tuple(f"{kind}_{part}" for kind in "Wb" for part in "QKVO")
MLP = ("W_in", "b_in", "W_gate", "W_out", "b_out")


@dataclass(frozen=True)
class Provenance:
    """Where a model came from: its name, its file, the hash of its weights when it was loaded, its tokens by id."""

    model: str
    checkpoint: str
    sha256: str
    vocabulary: Sequence[str] | None = None


def set_provenance(model: Any, name: str, checkpoint: str, vocabulary: Sequence[str] | None = None) -> None:
    """Write on a model object where it came from; its weights are hashed as they are now.

    Names of files need not be text: bytes that are none stand as escapes in all tables, pages and files.
    """
    setattr(model, ATTRIBUTE, Provenance(visible(name), visible(checkpoint), weights_hash(model), vocabulary))


def identity(model: Any) -> dict[str, Any]:
    """A model's name as `model`, its weights' hash as `sha256`, and where it is known its `checkpoint`.

    `weights` is there where they are no longer those that were loaded.
    """
    now = weights_hash(model)
    known = getattr(model, ATTRIBUTE, None)
    if not isinstance(known, Provenance):
        return {"model": getattr(model.cfg, "model_name", None) or "unnamed", "sha256": now}
    told = {"model": known.model, "checkpoint": known.checkpoint, "sha256": now}
    return told if now == known.sha256 else {**told, "weights": "changed after they were loaded"}


def vocabulary_of(model: Any) -> Sequence[str] | None:
    """The model's tokens by id, where they are known."""
    known = getattr(model, ATTRIBUTE, None)
    if isinstance(known, Provenance) and known.vocabulary is not None:
        return known.vocabulary
    tokenizer = getattr(model, "tokenizer", None)
    return None if tokenizer is None else Words(tokenizer, len(tokenizer))


class Words(Sequence[str]):
    """Token strings of a tokenizer, decoded when asked for."""

    def __init__(self, tokenizer: Any, d_vocab: int) -> None:
        self._tokenizer, self._d_vocab = tokenizer, d_vocab

    def __len__(self) -> int:
        return self._d_vocab

    def __getitem__(self, token: Any) -> Any:
        if not 0 <= token < self._d_vocab:
            raise IndexError(f"token {token} outside the vocabulary of {self._d_vocab}")  # where iterating ends
        return self._tokenizer.decode([token])

    def index(self, value: str, start: int = 0, stop: int | None = None) -> int:
        """The id of the one token that a string is, without a look at all others.

        Raises:
            ValueError: it is none, or several.
        """
        ids = list(self._tokenizer(value, add_special_tokens=False)["input_ids"]) if isinstance(value, str) else []
        stop = self._d_vocab if stop is None else stop
        if len(ids) != 1 or not start <= ids[0] < stop or self[ids[0]] != value:
            raise ValueError(f"{value!r:.60} is not one token")
        return ids[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Words) and other._tokenizer is self._tokenizer

    def __hash__(self) -> int:
        return hash(id(self._tokenizer))


def numbers_of(model: Any) -> dict[str, Tensor]:
    """Every floating parameter and buffer that a forward pass may read, each once, by its name."""
    wrapped = vars(model).get("original_model")
    found: dict[int, tuple[str, Tensor]] = {}
    for prefix, module in (("", model), ("original_model.", wrapped)):
        if isinstance(module, nn.Module):
            for name, w in (*module.named_parameters(), *module.named_buffers()):
                if w.is_floating_point():
                    found.setdefault(id(w), (prefix + name, w))
    return dict(found.values())


@dataclass(frozen=True)
class _Remembered:
    fingerprint: tuple[Tensor, ...]
    digest: str


_HASHES: WeakKeyDictionary[Any, _Remembered] = WeakKeyDictionary()


def weights_hash(model: Any) -> str:
    """SHA-256 of the values of a model's weights as doubles, under TransformerLens's names, in hexadecimal.

    The same for the same weights in another file, class or version of TransformerLens; biases that are all zero do not
    count, since some classes leave them out. A model that has weights beside those of a pre-norm decoder is hashed
    with all its parameters and buffers under their own names. Remembered until a value changes, by whatever means;
    only numbers that change places within a row and are alike to its rounding are not noticed.
    """
    fingerprint = tuple(number for w in numbers_of(model).values() for number in _fingerprint(w))
    known = _HASHES.get(model)
    if known is not None and _same(fingerprint, known.fingerprint):
        return known.digest
    digest = _digest(_named_weights(model))
    _HASHES[model] = _Remembered(fingerprint, digest)
    return digest


def weights_hashes(model: Any) -> dict[str, str]:
    """The first 16 digits of the hash of each weight that counts, under the names and rules of `weights_hash`."""
    return {name: _digest({name: weight})[:SHORT] for name, weight in sorted(_named_weights(model).items())}


def heads_hashes(model: Any) -> dict[tuple[int, int], str]:
    """The same of each head of a pre-norm decoder, by layer and head; the same for a head in another place.

    Of models in which heads share keys and values it is that of the queries and the output.
    """
    if not is_pre_norm_decoder(model.cfg):
        return {}
    n_heads, parts = int(model.cfg.n_heads), {}
    for name, weight in _named_weights(model).items():
        _, layer, *_, kind = name.split(".") if name.startswith("blocks.") else ("", "", "")
        if kind in ATTENTION and kind != "b_O" and len(weight) == n_heads:
            parts.setdefault(int(layer), {})[kind] = weight
    return {
        (layer, head): _digest({kind: weight[head] for kind, weight in of_layer.items()})[:SHORT]
        for layer, of_layer in parts.items()
        for head in range(n_heads)
    }


@torch.no_grad()
def _fingerprint(weight: Tensor) -> tuple[Tensor, ...]:
    """Sums that other values would change, at the cost of reading the values twice.

    Sums of the bit patterns are exact, so that the smallest change of a number shows, but not what changes places
    within a row; sums weighed by place show that, but nothing below their rounding.
    """
    flat = weight.detach().reshape(-1)
    if flat.storage_offset() * flat.element_size() % BYTES:
        flat = flat.clone()
    whole = len(flat) - len(flat) % (ROW * BYTES // flat.element_size())
    bits, rest = flat[:whole].view(torch.int64).view(-1, ROW), flat[whole:].clone()
    return (*_by_place(weight.detach()), bits.sum(1), rest.view(torch.uint8))


def _by_place(weight: Tensor) -> list[Tensor]:
    """The rows of a weight, each as one number."""
    rows = weight.reshape(len(weight) if weight.ndim else 1, -1)
    if rows.dtype in (torch.float32, torch.float64):
        return [rows @ _mix(rows.shape[1], rows.dtype, rows.device)]
    mix, batch_size = _mix(rows.shape[1], torch.float32, rows.device), max(CHUNK // max(rows.shape[1], 1), 1)
    return [part.float() @ mix for part in rows.split(batch_size)]


@lru_cache(64)
def _mix(n: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, " n"]:
    """Weights between 1/2 and 3/2, in an order without a pattern."""
    golden = 0.6180339887498949
    places = torch.arange(1, n + 1, dtype=torch.float64, device="cpu")
    return ((places * golden) % 1 + 0.5).to(device, dtype)


def _same(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return len(one) == len(other) and all(
        a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
        for a, b in zip(one, other, strict=True)
    )


def _digest(named: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(named):
        weight = named[name].detach()
        digest.update(f"{name} {tuple(weight.shape)}\n".encode())
        for part in weight.reshape(-1).split(CHUNK):
            double = part.cpu().to(torch.float64, copy=True).add_(0.0)  # the negative zero becomes the other one
            digest.update(double.numpy().astype("<f8", copy=False).data)
    return digest.hexdigest()


def _named_weights(model: Any) -> dict[str, Tensor]:
    """The weights of a pre-norm decoder in TransformerLens's names and shapes, or those of `state_dict` in its own."""
    if is_pre_norm_decoder(model.cfg):
        return {name: w for name, w in _decoder_weights(model) if _counts(name, w)}
    return numbers_of(model)


def _counts(name: str, weight: Tensor) -> bool:
    return not name.rpartition(".")[2].startswith("b") or bool(weight.count_nonzero())


def _decoder_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    yield from _of(model, "embed", ("W_E",))
    for name, holder, key in (("W_pos", model, "W_pos"), ("W_pos", getattr(model, "pos_embed", None), "weight")):
        if isinstance(found := getattr(holder, key, None), Tensor):
            yield f"pos_embed.{name}", found
            break
    for i, block in enumerate(getattr(model, "blocks", ())):
        for part, names in (*((norm, ("w", "b")) for norm in NORMS), ("attn", ATTENTION), ("mlp", MLP)):
            for name, weight in _of(block, part, names):
                yield f"blocks.{i}.{name}", weight
        for name, weight in _of(getattr(block, "mlp", None), "ln", ("w", "b")):
            yield f"blocks.{i}.mlp.{name}", weight
    yield from _of(model, "ln_final", ("w", "b"))
    yield from _of(model, "unembed", ("W_U", "b_U"))


def _of(holder: Any, part: str, names: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    module = getattr(holder, part, None)
    for name in names:
        if isinstance(module, nn.Module) and isinstance(weight := getattr(module, name, None), Tensor):
            yield f"{part}.{name}", weight
