"""Files of the Hugging Face hub: `hf-hub:OWNER/NAME` or `hf-hub:OWNER/NAME@REVISION`.

Its client keeps the cache, finds the token and resumes interrupted downloads; HF_HOME, HF_TOKEN,
HF_ENDPOINT and HF_HUB_OFFLINE configure it.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub  # imports most of its parts when they are first used
from huggingface_hub import constants, errors, utils

from clipa_jax.errors import ConfigError, DataError
from clipa_jax.runtime.progress import Progress

PREFIX = "hf-hub:"
_MB = 10**6


def fetch(address: str, choose: Callable[[list[str]], list[str]]) -> Path:
    """The folder in the cache with some files of a repository, downloaded where necessary.

    `address` begins with `PREFIX`; `choose` picks from the names of all files, at least one, of one
    folder. Raises `DataError` if there is no such repository or revision, no permission, or no
    network and not in the cache, or if the download was interrupted.
    """
    repo, _, revision = address.removeprefix(PREFIX).partition("@")
    with _download_errors(address):
        names = choose(_names(repo, revision or None))
        files = [
            huggingface_hub.hf_hub_download(
                repo,
                name,
                revision=revision or None,
                tqdm_class=_Bar,  # type: ignore[arg-type]  # has what is used of it
            )
            for name in names
        ]
    return Path(files[0]).parent


def _names(repo: str, revision: str | None) -> list[str]:
    """Names of the files in a repository; those in the cache if the hub cannot be reached."""
    try:
        return huggingface_hub.HfApi().list_repo_files(repo, revision=revision)
    except (errors.OfflineModeIsEnabled, errors.HTTPError) as error:
        if isinstance(error, errors.HfHubHTTPError) and error.response.status_code < 500:
            raise
        with contextlib.suppress(errors.LocalEntryNotFoundError):
            root = huggingface_hub.snapshot_download(repo, revision=revision, local_files_only=True)
            return [path.name for path in Path(root).iterdir()]
        raise


@contextlib.contextmanager
def _download_errors(address: str) -> Iterator[None]:
    """Raises errors of a download as `DataError`."""
    repo, _, revision = address.removeprefix(PREFIX).partition("@")
    page = f"{constants.ENDPOINT}/{repo}"
    try:
        yield
    except errors.HFValidationError:
        expected = f"{PREFIX}OWNER/NAME or {PREFIX}OWNER/NAME@REVISION"
        raise DataError(f"{address}: expected {expected}") from None
    except errors.GatedRepoError:
        raise DataError(
            f"{address} is gated: accept its conditions on {page}, then log in with "
            "`hf auth login` or set HF_TOKEN"
        ) from None
    except errors.RevisionNotFoundError:
        raise DataError(f"{address}: {page} has no branch, tag or commit {revision}") from None
    except errors.RepositoryNotFoundError:
        raise DataError(
            f"{address}: there is no repository {page}, or it is private; check the name, or log "
            "in with `hf auth login` or HF_TOKEN"
        ) from None
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, errors.HTTPError) as error:
        offline = constants.HF_HUB_OFFLINE
        reason = "HF_HUB_OFFLINE is set" if offline else f"the download failed: {error}"
        raise DataError(
            f"{address} is incomplete in the cache, {constants.HF_HUB_CACHE}, and {reason}; run "
            "the command again with a network, or copy the cache of a machine that has the files"
        ) from None


def check_name(repository: str) -> None:
    """Raises `ConfigError` unless a repository has the form OWNER/NAME that the hub takes."""
    with contextlib.suppress(errors.HFValidationError):
        utils.validate_repo_id(repository)
        if "/" in repository:
            return
    raise ConfigError(
        f"--repository={repository}: expected OWNER/NAME, of letters, digits, '-', '_' and '.'"
    )


@contextlib.contextmanager
def upload_errors(repository: str) -> Iterator[None]:
    """Raises errors of an upload as `DataError`."""
    try:
        yield
    except (errors.OfflineModeIsEnabled, errors.HTTPError, ConnectionError) as error:
        reason = str(error).partition("\n")[0]
        response = getattr(error, "response", None)
        remedy = "check the network and HF_ENDPOINT"
        if response is not None and response.status_code < 500:
            remedy = "log in with `hf auth login` or set HF_TOKEN to a token that may write"
        raise DataError(
            f"{repository}: the upload failed: {reason}; {remedy}, and run the same command again"
        ) from None


class _Bar:
    """The part of tqdm that the client uses, as our progress display; none for small files."""

    def __init__(self, *, desc: str = "", total: int | None = None, initial: int = 0, **_: Any):
        self._bytes = initial
        self._progress = Progress(
            f"downloading {desc}",
            total // _MB if total else None,
            start=initial // _MB,
            unit="MB",
            shown=not total or total >= 10 * _MB,
        )

    def update(self, more: int) -> None:
        self._bytes += more
        if self._bytes // _MB != self._progress.count:
            self._progress.update(self._bytes // _MB)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._progress.__exit__(*exc_info)
