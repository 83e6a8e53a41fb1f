"""Uploading an exported policy to the Hugging Face Hub. Knows no credentials: the library finds its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_a3c.sharing.policy import read_description
from lightning_a3c.version import __version__


class NotPushed(ValueError):
    """The Hub took nothing."""


def push_folder(folder: str | Path, repo: str, private: bool = False) -> str:
    """Upload what `lightning-a3c export` wrote to a model repository, made if it does not exist; returns its address.

    Args:
        folder: of the policy.
        repo: `user/name`.
        private: make a new repository private; has no effect on one that exists.

    Raises:
        NotPushed: huggingface_hub is not installed, nobody is logged in, or the Hub refused or did not answer.
        ValueError: the folder holds no policy.
    """
    folder = Path(folder)
    read_description(folder)
    user, _, name = repo.partition("/")
    if not user or not name or "/" in name:
        raise NotPushed(f"--repo must be user/name, got {repo!r}")
    try:
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ModuleNotFoundError as error:
        raise NotPushed(f'{error.name} is not installed; pip install "lightning-a3c[hub]"') from error
    if get_token() is None:
        raise NotPushed("nobody is logged in to the Hugging Face Hub; run `hf auth login`, or set HF_TOKEN")
    no_answer: Any = HfHubHTTPError.__bases__  # OSError, and the base of the HTTP library's errors
    api = HfApi(library_name="lightning-a3c", library_version=__version__)
    try:
        # None leaves the choice to the organisation of the repository
        api.create_repo(repo, private=private or None, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message=f"Upload with lightning-a3c {__version__}")
    except HFValidationError as error:
        raise NotPushed(f"--repo {repo}: {_first_line(error)}") from error
    except HfHubHTTPError as error:
        raise NotPushed(f"the Hub refused {repo}: {_first_line(error)}") from error
    except RuntimeError as error:  # how the library reports that the storage of large files refused one
        reason = f"{_first_line(error)} {_first_line(error.__cause__)}" if error.__cause__ else _first_line(error)
        raise NotPushed(f"the Hub refused {repo}: {reason}") from error
    except no_answer as error:
        raise NotPushed(f"the Hub at {api.endpoint} does not answer: {_first_line(error)}") from error
    return f"{api.endpoint}/{repo}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]
