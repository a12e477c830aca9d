"""GPT-2's tokenizer from a folder's files: data alone, never code.

Loaders of tokenizers take options from `tokenizer_config.json` that name Python files to run, and TransformerLens reads
the folder a second time. So the tokenizer is built here, of the vocabulary and the special tokens, and knows no folder.
"""

from __future__ import annotations

import json
import re
from math import prod
from pathlib import Path
from typing import Any

from maze_dla.adapters.gpt2.architecture import foreign_errors
from maze_dla.adapters.gpt2.sources import TOKENIZER_FILES
from maze_dla.adapters.gpt2.weights import read_json
from maze_dla.errors import CheckpointError, whole_number
from maze_dla.files.boundary import read_bytes, reading

END_OF_TEXT = "<|endoftext|>"
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
LONGEST_TOKEN = 1000  # characters of a special token
LARGEST_TABLE = 8 * 2**20  # bytes of each file
MOST_TOKENS = 300_000
MERGES_EACH = 4  # merges for each token, at most
LARGEST_ID = 2**31
REPEATED = re.compile(r"\{(\d{1,9})(?:,(\d{0,9}))?\}")
MOST_REPEATED = 10_000
MOST_GROWTH = 100
N_TRIED = 8  # tokens
VOCABULARY, MERGES, WHOLE, CONFIG = TOKENIZER_FILES


def read_tokenizer(folder: Path) -> Any:
    """A fast tokenizer of transformers that puts the BOS token first; None where the folder has no tokenizer.

    Raises:
        CheckpointError: files that are damaged, naming the folder or the file.
    """
    if not (folder / VOCABULARY).is_file() and not (folder / WHOLE).is_file():
        return None
    special = dict.fromkeys(SPECIAL[:3], END_OF_TEXT) | _special_tokens(folder)
    from transformers import PreTrainedTokenizerFast  # pyright: ignore[reportAttributeAccessIssue] (a lazy module)

    backend = _whole(folder / WHOLE) if (folder / WHOLE).is_file() else _of_parts(folder)
    with foreign_errors(f"{folder}: the tokenizer cannot be read"):  # the tokenizers library raises plain exceptions
        # the name of no folder, and BOS as asked for: so TransformerLens has no reason to read the folder again
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, name_or_path="", add_bos_token=True, **special)
        _put_first(tokenizer)
        tokenizer(tokenizer.decode(list(range(min(len(tokenizer), N_TRIED)))))  # some damage shows only then
    return tokenizer


def _special_tokens(folder: Path) -> dict[str, str]:
    """The names of the special tokens, where the config says so; all else in it is left unread."""
    if not (folder / CONFIG).is_file():
        return {}
    config, found = read_json(folder / CONFIG), {}
    for name in SPECIAL:
        token = config.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        if text is not None and not (isinstance(text, str) and 0 < len(text) <= LONGEST_TOKEN):
            raise CheckpointError(f"{folder / CONFIG}: {name} is {token!r:.60}, expected a token's text")
        found |= {} if text is None else {name: text}
    return found


def _of_parts(folder: Path) -> Any:
    """The tokenizer of a vocabulary and its merges."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    vocabulary = read_json(folder / VOCABULARY, LARGEST_TABLE)
    _check_ids(vocabulary, folder / VOCABULARY)
    merges = _merges(folder / MERGES, vocabulary)
    with foreign_errors(f"{folder / MERGES}: the merges cannot be used"):
        backend = Tokenizer(BPE(vocabulary, merges))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
    return backend


def _merges(file: Path, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """The pairs of tokens that are merged, the first ones first."""
    with reading(file, CheckpointError, "no text"):
        lines = read_bytes(file, CheckpointError, "a table of merges", LARGEST_TABLE).decode().split("\n")
    if len(lines) > (most := MERGES_EACH * len(vocabulary) + 2):
        raise CheckpointError(f"{file}: {len(lines)} lines, expected at most {most} for {len(vocabulary)} tokens")
    merges: list[tuple[str, str]] = []
    for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines, 1):
        if line.startswith("#version"):
            continue
        parts = line.removesuffix("\r").split(" ")
        if len(parts) != 2 or not all(token in vocabulary for token in (*parts, "".join(parts))):
            raise CheckpointError(
                f"{file}: line {number} is {line!r:.60}, expected two tokens of the vocabulary that make a third"
            )
        merges.append((parts[0], parts[1]))
    return merges


def _check_ids(vocabulary: Any, file: Path) -> None:
    """Refuse a vocabulary whose tokens have no numbers of their own."""
    if not isinstance(vocabulary, dict):
        raise CheckpointError(f"{file}: the vocabulary is a {type(vocabulary).__name__}, expected an object")
    if len(vocabulary) > MOST_TOKENS:
        raise CheckpointError(f"{file}: {len(vocabulary)} tokens, expected at most {MOST_TOKENS}")
    owners: dict[int, str] = {}
    for token, number in vocabulary.items():
        if whole_number(number) is None or not 0 <= number < LARGEST_ID:
            raise CheckpointError(
                f"{file}: token {token!r:.60} has the number {number!r:.60}, expected a whole one below {LARGEST_ID}"
            )
        if owners.setdefault(number, token) != token:
            raise CheckpointError(f"{file}: the tokens {owners[number]!r:.60} and {token!r:.60} are both {number}")


def _whole(file: Path) -> Any:
    """The tokenizer that a tokenizer.json describes: once its tables and patterns are known to be harmless."""
    from tokenizers import Tokenizer

    content = read_json(file, LARGEST_TABLE)
    model = content.get("model")
    if not isinstance(model, dict):
        raise CheckpointError(f"{file}: model is no object, so there is no vocabulary")
    if isinstance(vocabulary := model.get("vocab"), dict):
        _check_ids(vocabulary, file)
    merges = model.get("merges")
    if isinstance(merges, list) and len(merges) > MERGES_EACH * len(vocabulary or ()):
        raise CheckpointError(f"{file}: {len(merges)} merges for {len(vocabulary or ())} tokens")
    content |= {"truncation": None, "padding": None}  # which are asked for call by call
    with foreign_errors(f"{file}: the tokenizer cannot be read"):
        if (growth := _growth(content.get("normalizer"))) > MOST_GROWTH:
            raise CheckpointError(f"{file}: the normalizer makes texts up to {growth} times as long")
        for part in ("normalizer", "pre_tokenizer", "decoder"):
            _check_patterns(content.get(part), file)
        return Tokenizer.from_str(json.dumps(content))


def _growth(part: Any) -> int:
    """How many times as long a normalizer may make a text: each replacement puts its content in place of a letter."""
    if isinstance(part, list):
        return prod(map(_growth, part))
    if not isinstance(part, dict):
        return 1
    own = max((len(part[name]) for name in ("content", "prepend") if isinstance(part.get(name), str)), default=1)
    return max(own, 1) * prod(_growth(inside) for inside in part.values() if isinstance(inside, list | dict))


def _check_patterns(part: Any, file: Path) -> None:
    """Refuse regular expressions that repeat so often that to compile them takes for ever."""
    if isinstance(part, dict | list):
        for inside in part.values() if isinstance(part, dict) else part:
            _check_patterns(inside, file)
    elif isinstance(part, str):
        times = prod(max(1, *(int(n) for n in found if n)) for found in REPEATED.findall(part))
        if times > MOST_REPEATED:
            raise CheckpointError(f"{file}: the pattern {part!r:.60} repeats more than {MOST_REPEATED} times")


def _put_first(tokenizer: Any) -> None:
    """The BOS token in front of each text, unless special tokens are left out."""
    from tokenizers.processors import TemplateProcessing

    bos = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[bos, "$A"], pair=[bos, "$A", bos, "$B"], special_tokens=[(bos, tokenizer.bos_token_id)]
    )
