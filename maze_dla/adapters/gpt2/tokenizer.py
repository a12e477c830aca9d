"""GPT-2's tokenizer from a folder's files: data alone, never code.

Loaders of tokenizers take options from `tokenizer_config.json` that name Python files to run, and TransformerLens reads
the folder a second time. So the tokenizer is built here, of the vocabulary and the special tokens, and knows no folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maze_dla.adapters.gpt2.architecture import foreign_errors
from maze_dla.adapters.gpt2.sources import TOKENIZER_FILES
from maze_dla.adapters.gpt2.weights import read_json
from maze_dla.errors import CheckpointError

END_OF_TEXT = "<|endoftext|>"
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
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

    with foreign_errors(f"{folder}: the tokenizer cannot be read"):  # the tokenizers library raises plain exceptions
        backend = _backend(folder)
        # the name of no folder, and BOS as asked for: so TransformerLens has no reason to read the folder again
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, name_or_path="", add_bos_token=True, **special)
        _put_first(tokenizer)
    return tokenizer


def _special_tokens(folder: Path) -> dict[str, str]:
    """The names of the special tokens, where the config says so; all else in it is left unread."""
    if not (folder / CONFIG).is_file():
        return {}
    config, found = read_json(folder / CONFIG), {}
    for name in SPECIAL:
        token = config.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        if text is not None and not (isinstance(text, str) and text):
            raise CheckpointError(f"{folder / CONFIG}: {name} is {token!r:.60}, expected a token's text")
        found |= {} if text is None else {name: text}
    return found


def _backend(folder: Path) -> Any:
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    if (folder / WHOLE).is_file():
        return Tokenizer.from_file(str(folder / WHOLE))
    backend = Tokenizer(BPE.from_file(str(folder / VOCABULARY), str(folder / MERGES)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _put_first(tokenizer: Any) -> None:
    """The BOS token in front of each text, unless special tokens are left out."""
    from tokenizers.processors import TemplateProcessing

    bos = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[bos, "$A"], pair=[bos, "$A", bos, "$B"], special_tokens=[(bos, tokenizer.bos_token_id)]
    )
