"""Files of models on the Hugging Face hub: from its cache on this machine, or downloaded into it once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError

from cohort.errors import InputError
from vlm.encoder_names import HubAccess

TIMEOUT_S = 5.0


def hub_folder(
    name: str,
    repository: str,
    needed: Sequence[tuple[str, ...]],
    *,
    also: tuple[str, ...] = (),
    access: HubAccess,
    offline: str,
) -> Path:
    """The local copy of a hub repository. Downloads only what the cache does not hold, and gives up at once
    where the hub cannot be reached.

    Args:
        name: of the encoder, for messages.
        repository: `OWNER/MODEL`.
        needed: groups of file names; of each the first that the repository has.
        also: files of which it may have some; where the cache does not know which, the hub is asked if it may
            be and answers.
        access: NAMED only where the user named this repository.
        offline: what to do where the hub cannot be reached, or must not be asked.

    Raises:
        InputError: no such repository, one that lacks a needed file, or a hub out of reach.
    """
    try:
        here = [_cached(repository, group) for group in needed]
        known = all(try_to_load_from_cache(repository, file) is not None for file in also)
    except HFValidationError as error:
        raise _nothing_there(name, repository) from error
    cached = None if None in here else here[0].parent
    if cached and (known or access is HubAccess.CACHE):
        return cached
    if access is HubAccess.CACHE:
        raise InputError(
            f"encoder {name}: {repository[:200]} is not in the hub's cache, and nothing is downloaded "
            f"that only a model's own files or a bundle name; {offline}"
        )
    token = None if access is HubAccess.NAMED else False  # None: the one of this machine, if it has any
    try:
        return _downloaded(name, repository, needed, also, token)
    except InputError:
        raise
    except Exception as error:  # of which type depends on the transport below the hub's client
        if cached:
            return cached
        if isinstance(error, RepositoryNotFoundError):
            raise _nothing_there(name, repository) from error
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(
            f"encoder {name}: {repository} is not in the hub's cache and the hub cannot be reached "
            f"({reason}); {offline}"
        ) from error


def _downloaded(
    name: str, repository: str, needed: Sequence[tuple[str, ...]], also: tuple[str, ...], token: bool | None
) -> Path:
    info = HfApi().model_info(repository, timeout=TIMEOUT_S, token=token)
    there = {file.rfilename for file in info.siblings}
    chosen = [next((file for file in group if file in there), None) for group in needed]
    if None in chosen:
        missing = needed[chosen.index(None)]
        raise InputError(f"encoder {name}: {repository} on the hub holds no {' or '.join(missing)}")
    # What is needed comes last: where it is in the cache, an interruption has left out nothing else.
    for file in (*(file for file in also if file not in chosen), *chosen):
        with suppress(EntryNotFoundError):  # the client notes in its cache that there is none
            path = hf_hub_download(repository, file, etag_timeout=TIMEOUT_S, token=token)
    return Path(path).parent


def _nothing_there(name: str, repository: str) -> InputError:
    return InputError(
        f"encoder {name}: the hub has no repository {repository[:200]!r} to show; check OWNER/MODEL, and the "
        "access token of this machine where it is private"
    )


def _cached(repository: str, group: tuple[str, ...]) -> Path | None:
    paths = (try_to_load_from_cache(repository, file) for file in group)
    return next((Path(path) for path in paths if isinstance(path, str)), None)
