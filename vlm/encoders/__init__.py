"""Frozen vision-language encoders from several sources, behind one interface; each source is a file here."""

from __future__ import annotations

from importlib import import_module

import torch

from cohort.errors import InputError
from vlm.encoder_names import HubAccess
from vlm.encoders.base import Encoder
from vlm.feature_kinds import PROJECTED, SINGLE

__all__ = ["Encoder", "load_encoder"]

KINDS = ("pixels", "timm")
"""Files of this package, each named as the names it loads begin: `KIND` or `KIND:...`. All other names are
open_clip's. Only the file that is needed is imported: open_clip alone takes seconds."""


def load_encoder(
    name: str,
    *,
    features: tuple[str, ...] | None = (PROJECTED,),
    device: str | torch.device | None = None,
    hub: HubAccess = HubAccess.NAMED,
) -> Encoder:
    """Load a frozen encoder by name.

    - `phantom-clip`: the small model in this package, for trying things out.
    - `biomedclip`: short for `hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224`.
    - `hf-hub:OWNER/MODEL`: an open_clip model on the Hugging Face hub; a cached copy needs no network.
    - `local-dir:FOLDER`: the same files in a folder, and for a Hugging Face text tower (as BiomedCLIP's) its
      config.json and tokenizer beside them; nothing is downloaded for it.
    - `MODEL/TAG`: an architecture and a pretrained tag of open_clip, as `ViT-B-32/laion2b_s34b_b79k`.
    - `timm:NAME`: an image encoder of timm, which has no text tower; `timm:NAME@FILE`: with the weights of a
      local checkpoint.
    - `pixels`: the image itself at 32 x 32 gray pixels, a baseline for every encoder; `pixels:16x16x3`:
      smaller and in colour.

    `features` are the kinds that a row of its features holds, see `vlm.feature_kinds`; None: all that it has,
    from one forward pass. `device` is the GPU where there is one, unless given. `hub` says what may be
    downloaded where the hub's cache lacks it. Nothing a model brings is run: weights are safetensors, or else
    a pickle that holds only tensors, and of its settings only those that `vlm.encoders.model_files` lists are
    taken. Raises InputError, in one line, for an unknown name,
    missing or damaged files, other settings, a hub that cannot be reached, and features that the model lacks.
    """
    if strange := [kind for kind in features or () if kind not in SINGLE]:
        raise InputError(f"features must be of {', '.join(SINGLE)}, got {strange[0]!r}")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    prefix = name.partition(":")[0]
    kind = import_module(f"vlm.encoders.{prefix if prefix in KINDS else 'open_clip'}")
    return kind.load(name, features, hub).to(device)
