"""Where a GPT-2 model's files are: a folder, a checkpoint, the hub's cache on this machine, or the hub itself."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from maze_dla.adapters.gpt2.weights import weight_files
from maze_dla.errors import CheckpointError, InputError, shortened

BUNDLED = Path(__file__).parent / "bundled"
BUNDLED_NAME = "tiny-ioi (bundled with maze_dla, not gpt2-small)"
FOLDER_VARIABLE = "MAZE_DLA_GPT2"
GPT2_SMALL = "gpt2-small"

# the hub's repositories of each model, today's name first
REPOSITORIES = {
    GPT2_SMALL: ("openai-community/gpt2", "gpt2"),
    "gpt2-medium": ("openai-community/gpt2-medium", "gpt2-medium"),
    "gpt2-large": ("openai-community/gpt2-large", "gpt2-large"),
    "gpt2-xl": ("openai-community/gpt2-xl", "gpt2-xl"),
    "distilgpt2": ("distilbert/distilgpt2", "distilgpt2"),
}
ALIASES = {"gpt2": GPT2_SMALL, "distillgpt2": "distilgpt2"}
ALIASES |= {repository: name for name, (repository, _) in REPOSITORIES.items()}
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json")
WANTED_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json", *TOKENIZER_FILES]
LONGEST_NAME = 1000
PATIENCE = 4.0  # seconds that the hub has to answer before it counts as out of reach


@dataclass(frozen=True)
class GPT2Location:
    """A Hugging Face folder or a single checkpoint file, and the name that results give the model."""

    path: Path
    name: str

    @property
    def is_folder(self) -> bool:
        """Whether it is a Hugging Face folder rather than a checkpoint file."""
        return self.path.is_dir()


def locate_gpt2(origin: str | Path | None) -> GPT2Location:
    """Find a model's files.

    Args:
        origin: a name (`gpt2-small`, `gpt2-medium`, ..., or a hub repository `owner/name`), a Hugging Face folder, a
            checkpoint file, "bundled" for the tiny model that comes with maze_dla, or None for gpt2-small where it is
            on this machine and the bundled model otherwise.

    Raises:
        InputError: a name that is no model's.
        CheckpointError: no such file or folder, or a model that is neither here nor to be had; says how to provide it.
    """
    if origin is None:
        here = _on_this_machine(GPT2_SMALL)
        return GPT2Location(here, GPT2_SMALL) if here else locate_gpt2("bundled")
    if not isinstance(origin, str | Path):
        raise InputError(f"expected a model's name, a folder or a checkpoint file, got {type(origin).__name__}")
    if origin == "bundled":
        return GPT2Location(BUNDLED, BUNDLED_NAME)
    name = ALIASES.get(str(origin), str(origin))
    if not name.strip() or len(name) > LONGEST_NAME:
        raise InputError(f"a model's name, folder or file has 1 to {LONGEST_NAME} characters, got {len(name)}")
    path = _path(origin)
    if path.exists() and not (name in REPOSITORIES and not (path / "config.json").exists()):
        return GPT2Location(path, path.name or str(path))
    if name not in REPOSITORIES:
        _refuse_what_is_no_name(origin, name)
    return GPT2Location(_on_this_machine(name) or _download(name), name)


def _path(origin: str | Path) -> Path:
    """The path that is meant, once the system can be asked about it.

    Raises:
        CheckpointError: a user whose home is not known, or characters or a length that no path has here.
    """
    try:
        path = Path(origin).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.stat()
        return path
    except (OSError, RuntimeError, ValueError) as problem:  # too long; ~nosuchuser; half of a surrogate pair
        reason = getattr(problem, "strerror", None) or problem
        raise CheckpointError(f"{shortened(origin, 300)}: cannot be a path here ({reason})") from problem


def _refuse_what_is_no_name(origin: str | Path, name: str) -> None:
    """Names of files that are not there, and names that no model has."""
    looks_like_path = isinstance(origin, Path) or name.endswith(CHECKPOINT_SUFFIXES) or name.startswith((".", "/", "~"))
    if looks_like_path or name.count("/") > 1 or "\\" in name:
        raise CheckpointError(f"{origin}: no such file or folder")
    if "/" in name:
        return _check_repository(name)
    close = get_close_matches(name, [*REPOSITORIES, *ALIASES], n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise InputError(
        f"unknown model {name!r}: {hint}Expected one of {', '.join(REPOSITORIES)}, a hub repository (owner/name), "
        "a Hugging Face folder, a checkpoint file, or 'bundled'"
    )


def _check_repository(name: str) -> None:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as problem:
        raise InputError(f"{name!r}: no such file or folder, and no name of a hub repository either") from problem


def _on_this_machine(name: str) -> Path | None:
    """The folder of a model that needs no network, or None."""
    if name == GPT2_SMALL and (folder := os.environ.get(FOLDER_VARIABLE)):
        if not _path(folder).is_dir():
            raise CheckpointError(f"{FOLDER_VARIABLE} names {folder}, which is no folder")
        return Path(folder)
    from huggingface_hub import try_to_load_from_cache

    for repository in REPOSITORIES.get(name, (name,)):
        config = try_to_load_from_cache(repository, "config.json")
        if isinstance(config, str) and weight_files(Path(config).parent):
            return Path(config).parent
    return None


def _download(name: str) -> Path:
    """Fetch a model from the hub, once the hub is known to answer."""
    repository = REPOSITORIES.get(name, (name,))[0]
    if reason := _out_of_reach(repository):
        variable = f"set {FOLDER_VARIABLE} to such a folder, " if name == GPT2_SMALL else ""
        raise CheckpointError(
            f"{name} is not on this machine and the hub {reason}: give the path of a folder with config.json, "
            f"model.safetensors and the tokenizer's files, {variable}or put {repository} into the Hugging Face cache "
            "(HF_HOME)"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(repository, allow_patterns=WANTED_FILES))
    except (HfHubHTTPError, OSError) as problem:
        raise CheckpointError(f"{name}: downloading {repository} failed ({str(problem).splitlines()[0]})") from problem


def _out_of_reach(repository: str) -> str:
    """Why the hub cannot be asked, or nothing. One question and no second try."""
    from huggingface_hub import constants, get_session, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        return "may not be asked (HF_HUB_OFFLINE is set)"
    answers: list[str] = []

    def ask() -> None:
        try:
            status = get_session().head(hf_hub_url(repository, "config.json"), timeout=PATIENCE).status_code
            answers.append("has no such repository" if status in (401, 404) else "")
        except Exception as problem:  # whatever the client of this version raises: no answer is an answer
            answers.append(f"cannot be reached ({type(problem).__name__})")

    asking = threading.Thread(target=ask, daemon=True)  # looking up a host's address knows no time limit
    asking.start()
    asking.join(PATIENCE + 1)
    return answers[0] if answers else f"did not answer within {PATIENCE + 1:.0f} seconds"
