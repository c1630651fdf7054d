"""Files of models on the Hugging Face hub: from its cache on this machine, or downloaded into it once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

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
        also: files of which it may have some.
        access: NAMED only where the user named this repository.
        offline: what to do where the hub cannot be reached, or must not be asked.

    Raises:
        InputError: no such repository, one that lacks a needed file, or a hub out of reach.
    """
    token = None if access is HubAccess.NAMED else False  # None: the one of this machine, if it has any
    try:
        here = [_cached(repository, group) for group in needed]
        if None not in here:
            return here[0].parent
        if access is HubAccess.CACHE:
            raise InputError(
                f"encoder {name}: {repository[:200]} is not in the hub's cache, and nothing is downloaded "
                f"that only a model's own files or a bundle name; {offline}"
            )
        info = HfApi().model_info(repository, timeout=TIMEOUT_S, token=token)
        there = {file.rfilename for file in info.siblings}
        chosen = [next((file for file in group if file in there), None) for group in needed]
        if None not in chosen:
            for file in (*chosen, *(file for file in also if file in there)):
                path = hf_hub_download(repository, file, etag_timeout=TIMEOUT_S, token=token)
            return Path(path).parent
    except InputError:
        raise
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise InputError(
            f"encoder {name}: the hub has no repository {repository[:200]!r} to show; check OWNER/MODEL, and "
            "the access token of this machine where it is private"
        ) from error
    except Exception as error:  # of which type depends on the transport below the hub's client
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(
            f"encoder {name}: {repository} is not in the hub's cache and the hub cannot be reached "
            f"({reason}); {offline}"
        ) from error
    missing = needed[chosen.index(None)]
    raise InputError(f"encoder {name}: {repository} on the hub holds no {' or '.join(missing)}")


def _cached(repository: str, group: tuple[str, ...]) -> Path | None:
    paths = (try_to_load_from_cache(repository, file) for file in group)
    return next((Path(path) for path in paths if isinstance(path, str)), None)
