"""Train `phantom-clip`, the small CLIP model of the embedded sample, on drawn phantoms and their reports.

    python -m sample.train_clip --out vlm/phantom_clip

The model exists to exercise the platform, not medicine: it has never seen a patient. It learns from phantoms
of the appearance `sample.appearance.TRAINING`, another distribution than the sample's, so that on the sample
zero-shot works a little and probing works better, as with a published model on a new hospital's films.

What stands in for a web-scale corpus is drawn anew: films with all findings at a raised prevalence, each with
captions of four sorts (its report, one sentence of it, a bare label or a phrase about it, what is absent).
Many captions of a batch are true of many of its films ("Normal chest.", "No pneumothorax is seen."), so
CLIP's identity matrix, which calls all but one of them wrong, would teach noise. The targets here are which
captions are true of which films, each row normalised to sum to 1: the loss of Yang et al., "Unified
Contrastive Learning in Image-Text-Label Space", CVPR 2022. Where every caption is true of its own film only,
that is CLIP's loss.

Writes an open_clip `local-dir:` (configuration, weights in fp16, tokenizer) and `training_log.jsonl`. The
same seed on the same machine with the same number of threads gives the same weights.

Shape legend: N images, B batch, C labels, H height, W width, D features, T patches.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from open_clip.tokenizer import HFTokenizer
from torch import nn
from tqdm import tqdm

from cohort.labels import CHEXPERT_14, NIH_14, NO_FINDING
from sample.appearance import TRAINING
from sample.phantoms import PREVALENCE, Phantom, draw_phantoms, plan_phantoms, targets_of
from sample.reports import Statement, negative_statements, normal_statement, positive_statement
from scoring.label_groups import macro
from scoring.metrics import auroc
from vlm.encoders.open_clip import CONFIG_FILE, SAFE_WEIGHTS
from vlm.precision import multiplies_in_bf16
from vlm.prompts import CHEST, STYLES, Wording, label_prompts
from vlm.tensor_files import write_tensors

LOG_FILE = "training_log.jsonl"
SIZE = 128
LOCATION_WEIGHT = 1.0

# Every finding on about one film in ten: 40 % of the films stay without any.
TRAINING_PREVALENCE = {label: 0.10 for label in PREVALENCE}

MODEL_CONFIG = {
    "embed_dim": 192,
    "vision_cfg": {"image_size": SIZE, "patch_size": 16, "layers": 4, "width": 192, "head_width": 64},
    "text_cfg": {
        "context_length": 40,
        "width": 96,
        "heads": 4,
        "layers": 2,
        "hf_tokenizer_name": "phantom-clip",  # open_clip reads it from the model's own folder
        "pool_type": "eos",
        "pad_id": 0,
        "eos_id": 3,
    },
}
PREPROCESS_CONFIG = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic"}
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_PHRASES = ("{}", "{}", "a chest X-ray showing {}", "frontal chest radiograph with {}", "there is {}")
_ABSENCES = ("no {}", "a chest X-ray without {}", "no evidence of {}", "there is no {}")


# ------------------------------------------------------------------------------------------------ the words


def vocabulary(phantoms: Sequence[Phantom]) -> list[str]:
    """WordPiece vocabulary: every word of the reports and of the prompts for known labels, and single
    characters, so that any other word can be spelt."""
    texts = [statement.text for phantom in phantoms for statement in phantom.report]
    texts += [statement.text for statement in negative_statements(())]
    texts += [text.format("") for text in (*_PHRASES, *_ABSENCES)]
    for style in STYLES:
        for prompts in label_prompts((*CHEXPERT_14, *NIH_14), style, Wording(modality=CHEST)):
            texts += [*prompts.positive, *prompts.negative]
    words = {word for text in texts for word in _words(text)}
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + [str(digit) for digit in range(10)]
    pieces = [*letters, *(f"##{letter}" for letter in letters), *"-.,:;()/'"]
    return [*SPECIAL_TOKENS, *pieces, *sorted(words - set(pieces))]


def _words(text: str) -> list[str]:
    """As BERT's tokenizer splits: lower case, at spaces and around every punctuation mark."""
    spaced = "".join(c if c.isalnum() or c.isspace() else f" {c} " for c in text.lower())
    return spaced.split()


def write_tokenizer(folder: Path, words: Sequence[str]) -> None:
    """A BERT tokenizer that open_clip's `HFTokenizer` reads: [CLS] words [SEP] [PAD] ..."""
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "BertTokenizer",
                "do_lower_case": True,
                "model_max_length": MODEL_CONFIG["text_cfg"]["context_length"],
            },
            indent=2,
        )
        + "\n"
    )


def caption(phantom: Phantom, rng: np.random.Generator) -> Statement:
    """A new caption for a film: its report (30 %), a sentence about one finding (30 %), a label or a phrase
    about it (30 %), or what is absent (10 %)."""
    sort = rng.random()
    present = [label for label in phantom.labels if label != NO_FINDING]
    if sort < 0.3:
        order = rng.permutation(len(phantom.report))
        said = [phantom.report[k] for k in order[: rng.integers(1, len(order) + 1)]]
        return Statement(
            " ".join(statement.text for statement in said),
            frozenset().union(*(statement.asserts for statement in said)),
            frozenset().union(*(statement.denies for statement in said)),
        )
    if sort < 0.6:
        if not phantom.findings:
            return normal_statement(rng)
        label = list(phantom.findings)[rng.integers(len(phantom.findings))]
        return positive_statement(label, phantom.findings[label], rng)
    if sort < 0.9:
        label = phantom.labels[rng.integers(len(phantom.labels))]
        return Statement(_PHRASES[rng.integers(len(_PHRASES))].format(label), frozenset({label}))
    absent = [label for label in CHEXPERT_14 if label not in present and label != NO_FINDING]
    label = absent[rng.integers(len(absent))]
    return Statement(_ABSENCES[rng.integers(len(_ABSENCES))].format(label), denies=frozenset({label}))


# ------------------------------------------------------------------------------------------------- the loss


def true_captions(facts: Sequence[frozenset[str]], captions: Sequence[Statement]) -> torch.Tensor:
    """float32 (B, B): 1 where caption j is true of the film of which the facts i hold."""
    return torch.tensor([[caption.true_of(known) for caption in captions] for known in facts]).float()


def contrastive_loss(logits_BB: torch.Tensor, true_BB: torch.Tensor) -> torch.Tensor:
    """Mean of the cross-entropies from images to captions and from captions to images, with targets spread
    evenly over what is true. `logits_BB` are scaled cosines (image i, caption j); every row and column of
    `true_BB` has at least one 1."""
    to_captions = F.cross_entropy(logits_BB, true_BB / true_BB.sum(dim=1, keepdim=True))
    to_images = F.cross_entropy(logits_BB.T, true_BB.T / true_BB.T.sum(dim=1, keepdim=True))
    return (to_captions + to_images) / 2


# --------------------------------------------------------------------------------------------- the training


def normalise(images_BHW: torch.Tensor) -> torch.Tensor:
    """uint8 (B, H, W) -> float32 (B, 3, H, W), as open_clip's transform would give it."""
    x_BHW = (images_BHW.float() / 255 - PREPROCESS_CONFIG["mean"][0]) / PREPROCESS_CONFIG["std"][0]
    return x_BHW[:, None].expand(-1, 3, -1, -1)


def patch_labels(masks_NHW: np.ndarray) -> np.ndarray:
    """bool (N, patches, C): which findings are to be seen in each patch of the image tower; the masks are
    uint16 with one bit per finding."""
    patch = MODEL_CONFIG["vision_cfg"]["patch_size"]
    images, height, width = masks_NHW.shape
    tiles = masks_NHW.reshape(images, height // patch, patch, width // patch, patch)
    seen_NT = np.bitwise_or.reduce(tiles, axis=(2, 4)).reshape(images, -1)
    return (seen_NT[:, :, None] >> np.arange(len(CHEXPERT_14), dtype=np.uint16)) & 1 == 1


def image_tokens(model: CLIP, x_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pooled (B, W) and patch tokens (B, patches, W) of the image tower, before its projection."""
    visual = model.visual
    return visual._pool(visual.transformer(visual._embeds(x_BCHW)))


def exposed_anew(x_BCHW: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Each normalised image with another contrast and brightness."""
    contrast = torch.from_numpy(rng.uniform(0.7, 1.4, (len(x_BCHW), 1, 1, 1))).float()
    brightness = torch.from_numpy(rng.uniform(-0.4, 0.4, (len(x_BCHW), 1, 1, 1))).float()
    return contrast * x_BCHW + brightness


@torch.inference_mode()
def zero_shot_auroc(
    model: CLIP, tokenizer: HFTokenizer, images_NHW: torch.Tensor, labels_NC: np.ndarray, half: bool
) -> float:
    """Macro AUROC over the labels with both classes, of the cosine with each bare label name."""
    model.eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        text_CD = model.encode_text(tokenizer(list(CHEXPERT_14)), normalize=True)
        parts = [
            model.encode_image(normalise(images_NHW[i : i + 256]), normalize=True)
            for i in range(0, len(images_NHW), 256)
        ]
    model.train()
    scores_NC = (torch.cat(parts).float() @ text_CD.float().T).numpy()
    return float(macro(auroc(labels_NC, scores_NC)).value)


@dataclass(frozen=True)
class Films:
    """Films to train on, and what is to be seen in them."""

    plan: Sequence[Phantom]
    images_NHW: torch.Tensor
    """uint8."""
    patches_NTC: torch.Tensor
    """bool, see `patch_labels`."""

    @classmethod
    def drawn(cls, plan: Sequence[Phantom]) -> Films:
        images_NHW, masks_NHW = draw_phantoms(plan, SIZE)
        return cls(plan, torch.from_numpy(images_NHW), torch.from_numpy(patch_labels(masks_NHW)))


def train(
    out: Path,
    *,
    images: int = 20_000,
    held_out: int = 1_000,
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    seed: int = 0,
    logged_every: int = 50,
) -> None:
    """Draw films, train on them, and write the model and its log into the folder `out`.

    AdamW with a warm-up over the first twentieth of the steps and a cosine decay, both towers from scratch.
    Products are computed in bf16 where the processor has it. Every `logged_every` steps, and at the end, the
    log gets the mean loss since the last entry and the zero-shot macro AUROC on `held_out` films of the same
    appearance that are not trained on; nothing is chosen by it.
    """
    out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    # Two plans, two seeds: no patient is in both.
    plan = plan_phantoms(images, seed=2 * seed + 1001, appearance=TRAINING, prevalence=TRAINING_PREVALENCE)
    unseen = plan_phantoms(
        held_out, seed=2 * seed + 1002, appearance=TRAINING, prevalence=TRAINING_PREVALENCE
    )
    films = Films.drawn(plan)
    unseen_NHW = torch.from_numpy(draw_phantoms(unseen, SIZE)[0])
    unseen_labels_NC = targets_of(unseen)
    model, locate, tokenizer = _untrained(out, plan, seed)
    rng = np.random.default_rng(seed)
    parameters = [*model.parameters(), *locate.parameters()]
    steps = epochs * (images // batch_size)
    optimizer, schedule = _optimizer(parameters, learning_rate, steps)
    half = multiplies_in_bf16(torch.device("cpu"))

    losses: list[float] = []
    with (
        (out / LOG_FILE).open("w") as log,
        tqdm(total=steps, unit="step", mininterval=5, disable=None) as bar,
    ):
        for step in range(1, steps + 1):
            position = (step - 1) % (images // batch_size)
            if position == 0:
                order_N = rng.permutation(images)
            rows_B = order_N[position * batch_size : (position + 1) * batch_size]
            loss = _loss(model, locate, tokenizer, films, rows_B, rng, half)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=np.log(100))  # as in CLIP
            losses.append(loss.item())
            bar.update()
            if step % logged_every == 0 or step == steps:
                held_out_auroc = zero_shot_auroc(model, tokenizer, unseen_NHW, unseen_labels_NC, half)
                entry = {
                    "step": step,
                    "loss": round(float(np.mean(losses)), 4),
                    "held_out_zero_shot_macro_auroc": round(held_out_auroc, 4),
                    "seconds": round(time.perf_counter() - start, 1),
                }
                log.write(json.dumps(entry) + "\n")
                log.flush()
                bar.set_postfix(loss=entry["loss"], auroc=entry["held_out_zero_shot_macro_auroc"])
                losses.clear()

    write_tensors(out / SAFE_WEIGHTS, {name: tensor.half() for name, tensor in model.state_dict().items()})


def _untrained(out: Path, plan: Sequence[Phantom], seed: int) -> tuple[CLIP, nn.Linear, HFTokenizer]:
    """The model, the layer that locates findings in its patches, and its tokenizer, whose files and the
    configuration are written."""
    words = vocabulary(plan)
    write_tokenizer(out, words)
    config = MODEL_CONFIG | {"text_cfg": MODEL_CONFIG["text_cfg"] | {"vocab_size": len(words)}}
    (out / CONFIG_FILE).write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": PREPROCESS_CONFIG}, indent=2) + "\n"
    )
    tokenizer = HFTokenizer(str(out), context_length=config["text_cfg"]["context_length"])
    torch.manual_seed(seed)
    model = CLIP(**config)
    return model, nn.Linear(config["vision_cfg"]["width"], len(CHEXPERT_14)), tokenizer


def _optimizer(
    parameters: Sequence[nn.Parameter], learning_rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    decayed = [p for p in parameters if p.ndim >= 2]
    others = [p for p in parameters if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=learning_rate,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=max(steps, 2), pct_start=0.05, cycle_momentum=False
    )
    return optimizer, schedule


def _loss(
    model: CLIP,
    locate: nn.Linear,
    tokenizer: HFTokenizer,
    films: Films,
    rows_B: np.ndarray,
    rng: np.random.Generator,
    half: bool,
) -> torch.Tensor:
    """Of one batch with new captions and exposures: contrastive, and of where the findings are."""
    captions = [caption(films.plan[n], rng) for n in rows_B]
    tokens = tokenizer([statement.text for statement in captions])
    true_BB = true_captions([films.plan[n].facts for n in rows_B], captions)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        x_BCHW = exposed_anew(normalise(films.images_NHW[rows_B]), rng)
        pooled_BW, tokens_BTW = image_tokens(model, x_BCHW)
        image_BD = F.normalize(pooled_BW @ model.visual.proj, dim=1)
        patch_logits_BTC = locate(tokens_BTW)
        text_BD = model.encode_text(tokens, normalize=True)
    loss = contrastive_loss(model.logit_scale.exp() * image_BD.float() @ text_BD.float().T, true_BB)
    return loss + LOCATION_WEIGHT * F.binary_cross_entropy_with_logits(
        patch_logits_BTC.float(), films.patches_NTC[rows_B].float(), pos_weight=torch.tensor(10.0)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train phantom-clip on drawn phantoms and their reports.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model and its training log")
    parser.add_argument("--images", type=int, default=20_000, help="films to draw and train on")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--threads", type=int, default=2, help="for torch; part of what makes a run repeatable"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.out, images=arguments.images, epochs=arguments.epochs, seed=arguments.seed)


if __name__ == "__main__":
    main()
