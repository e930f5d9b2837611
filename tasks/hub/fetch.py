"""Folders of models on the Hugging Face hub: getting one, and sending one."""

import re
from pathlib import Path

from preprocess.common.errors import UserError, one_line

HUB = "hf:"  # before the name of a repository, where a path could stand
NAMES = re.compile(r"[\w.-]+/[\w.-]+")
TAKEN = ["config.json", "model.safetensors", "README.md"]  # nothing else of a repository is downloaded
EXTRA = "pip install 'tristream[hub]'"


def is_on_hub(run: str) -> bool:
    """True for hf:OWNER/NAME and hf:OWNER/NAME@REVISION."""
    return run.startswith(HUB)


def fetch(run: str, **settings: object) -> Path:
    """The folder of hf:OWNER/NAME or hf:OWNER/NAME@REVISION in the hub's cache, downloaded if it is not there.

    Args:
        settings: of huggingface_hub.snapshot_download: cache_dir, token, local_files_only, force_download …

    Raises:
        UserError: a name of another form; huggingface_hub is not installed; the repository cannot be had.
    """
    name, _, revision = run.removeprefix(HUB).partition("@")
    if revision:
        settings["revision"] = revision
    check_name(name)
    hub = _library()
    try:
        return Path(hub.snapshot_download(name, allow_patterns=TAKEN, **settings))
    except Exception as error:  # no network, no such repository, no right to read it, a full disk
        raise UserError(f"{HUB}{name} cannot be downloaded ({_first(error)})") from error


def push(folder: Path, repo: str, *, private: bool = False, token: str | None = None, message: str = "Model") -> str:
    """Upload a folder in one commit to a repository, which is made if it is not there; return the commit's address.

    Raises UserError as fetch does, or if nothing can be written there.
    """
    check_name(repo)
    api = _library().HfApi(token=token)
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    except Exception as error:  # of many kinds, also those of the network
        why = _first(error)
        raise UserError(
            f"{repo} cannot be written ({why}): is it yours, and did you log in with 'hf auth login'?"
        ) from error
    return str(done)


def check_name(repo: str) -> None:
    """Raises UserError for what is no name of a repository."""
    if not NAMES.fullmatch(repo):
        raise UserError(f"'{repo}' is no repository of the hub: its name is OWNER/NAME")


def _library():
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(f"the hub depends on the 'hub' extra: {EXTRA}") from error
    return huggingface_hub


def _first(error: Exception) -> str:
    return one_line(next(iter(str(error).strip().splitlines()), type(error).__name__))
