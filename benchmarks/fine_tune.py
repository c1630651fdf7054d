"""How fast a fine-tuning trial trains, beside the bare tower and beside decoding PNGs every epoch.

    python -m benchmarks.fine_tune                a tiny ViT on a processor, ViT-B/16 on a GPU; 1 to 2 minutes
    python -m benchmarks.fine_tune --tower vit_base_patch16_224 --images 2670 --epochs 10 --device cuda

Three loops train the same tower, full, at the same batch size and precision, an epoch each in turn:

bare       the least a training step can be: float tensors on the device, forward, backward, AdamW
trial      `FineTuneTrial` from the memory-mapped store, judged on validation after every epoch (not counted);
           once as the paper trains and once with distortions and a running mean of the weights
PNG        the usual way: a DataLoader with a worker a core decodes and resizes every PNG in every epoch

and of each the fastest epoch is printed (other work on the machine only ever slows one down), with the share
of time in which the trial waited for data. The aims are 95 % of the bare loop and less than 3 % waiting.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from cohort.geometry import apply_geometry
from search_spaces.configuration import Configuration
from search_spaces.fine_tune import PAPER, SPACE
from trainables.fine_tune import FineTuneTrial
from trainables.fine_tune_compute import Compute
from trainables.fine_tune_config import Training
from trainables.trial_data import FineTuneData
from vlm.encoders import Encoder, load_encoder

LABELS = 14
VALIDATION_SHARE = 575 / 2670  # as in IU-Xray


def build_encoder(tower: str, folder: Path) -> Encoder:
    """An open_clip model with this timm trunk and random weights; its text tower is as small as can be."""
    size = 224
    config = {
        "embed_dim": 512,
        "vision_cfg": {
            "timm_model_name": tower,
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": size,
        },
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
    }
    folder.mkdir()
    torch.manual_seed(0)
    save_file(CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    whole = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    return load_encoder(f"local-dir:{folder}", device="cpu")


def draw_images(folder: Path, images: int, side: int, encoder: Encoder) -> tuple[list[Path], FineTuneData]:
    """PNGs of smooth gray noise, and the store that one decoding of them gives."""
    rng = np.random.default_rng(0)
    files, stored = [], []
    for i in tqdm(range(images), desc="drawing PNGs", unit="image", mininterval=2, delay=2):
        coarse_HW = Image.fromarray(rng.integers(0, 256, (side // 16, side // 16), dtype=np.uint8))
        smooth_HW = np.asarray(coarse_HW.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16)
        picture_HW = np.clip(smooth_HW + rng.integers(-6, 7, smooth_HW.shape), 0, 255).astype(np.uint8)
        data = io.BytesIO()
        Image.fromarray(picture_HW).save(data, "PNG")
        files.append(folder / f"{i}.png")
        files[-1].write_bytes(data.getvalue())
        stored.append(apply_geometry(picture_HW, encoder.geometry)[:, :, None])
    np.save(folder / "images.npy", np.stack(stored))
    targets_NC = (rng.random((images, LABELS)) < 0.3).astype(np.float32)
    targets_NC[:2], targets_NC[-2:] = [[0], [1]], [[0], [1]]
    val = math.ceil(images * VALIDATION_SHARE / (1 + VALIDATION_SHARE))
    train = images - val
    data = FineTuneData(
        images_file=folder / "images.npy",
        rows_N=np.arange(images),
        targets_NC=targets_NC,
        patients_N=np.arange(images),
        fold_N=np.repeat([-1, 0], [train, val]),
        threshold_fold_N=np.concatenate([np.full(train, -1), np.arange(val) % 5]),
        labels=tuple(f"label {c}" for c in range(LABELS)),
        objective_labels_C=np.ones(LABELS, dtype=bool),
    )
    return files[:train], data


class Bare:
    """The tower's own training loop."""

    def __init__(self, encoder: Encoder, device: torch.device, precision: str) -> None:
        self.device, self.precision = device, precision
        model = open_clip.create_model(encoder.name).visual
        self.model = nn.Sequential(model, nn.Linear(encoder.width, LABELS)).to(device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def step(self, images_BCHW: torch.Tensor, targets_BC: torch.Tensor) -> torch.Tensor:
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        with torch.autocast(self.device.type, dtype=dtype, enabled=self.precision != "fp32"):
            logits_BC = self.model(images_BCHW)
        loss = nn.functional.binary_cross_entropy_with_logits(logits_BC.float(), targets_BC)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss


class PNGs(torch.utils.data.Dataset):
    """Files, decoded and transformed by open_clip whenever they are asked for."""

    def __init__(self, files: list[Path], targets_NC: np.ndarray, transform: Callable) -> None:
        self.files, self.targets_NC, self.transform = files, targets_NC, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, np.ndarray]:
        return self.transform(Image.open(self.files[i])), self.targets_NC[i]


def main(arguments: Sequence[str] | None = None) -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--tower", help="a timm trunk at 224 px")
    parser.add_argument("--images", type=int, help="training images")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of each loop (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=24, help="the paper's, by default: %(default)s")
    parser.add_argument("--precision", default="auto", help="auto, fp32, bf16 or fp16 (default: %(default)s)")
    parser.add_argument("--micro-batch", type=int, help="images at once (default: the batch)")
    parser.add_argument("--png-side", type=int, default=1024, help="side of the PNGs (default: %(default)s)")
    parser.add_argument("--compile", action="store_true", help="torch.compile the trial's tower")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    on_gpu = device.type == "cuda"
    tower = options.tower or ("vit_base_patch16_224" if on_gpu else "vit_tiny_patch16_224")
    train = options.images or (2670 if on_gpu else 48)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder = build_encoder(tower, folder / "encoder")
        files, data = draw_images(
            folder, train + math.ceil(train * VALIDATION_SHARE), options.png_side, encoder
        )
        train = len(files)
        training = Training(batch_size=options.batch_size, patience=None)
        compute = Compute(
            device=device,
            precision=options.precision,
            micro_batch=options.micro_batch,
            compile_tower=options.compile,
        )

        def new_trial(number: int, **changes) -> FineTuneTrial:
            config = Configuration(SPACE, number, PAPER | {"epochs": options.epochs} | changes)
            return FineTuneTrial(
                config,
                encoder,
                data,
                training=training,
                compute=compute,
            )

        plain, busy = new_trial(0), new_trial(1, augmentation=1.0, ema_decay=0.999)
        bare, usual = (Bare(encoder, device, plain.precision) for _ in range(2))
        mean_C11, std_C11 = (
            torch.tensor(values, device=device).view(3, 1, 1) for values in (encoder.mean, encoder.std)
        )
        train_N = data.training_N()
        train_targets_NC = data.targets_NC[train_N]
        images_NHWC = torch.tensor(data.images_NHWC[data.rows_N[train_N]], device=device)
        ready_NCHW = (images_NHWC.permute(0, 3, 1, 2).float() / 255 - mean_C11) / std_C11
        targets_NC = torch.tensor(train_targets_NC, device=device)
        _, transform = open_clip.create_model_from_pretrained(encoder.name)
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        loader = torch.utils.data.DataLoader(
            PNGs(files, train_targets_NC, transform),
            batch_size=options.batch_size,
            shuffle=True,
            num_workers=workers,
            pin_memory=on_gpu,
            persistent_workers=True,
        )

        def bare_epoch() -> float:
            started = time.perf_counter()
            for index_B in torch.randperm(train, device=device).split(options.batch_size):
                loss = bare.step(ready_NCHW[index_B], targets_NC[index_B])
            loss.item()  # waits for the device
            return train / (time.perf_counter() - started)

        def usual_epoch() -> float:
            started = time.perf_counter()
            for images_BCHW, targets_BC in loader:
                loss = usual.step(
                    images_BCHW.to(device, non_blocking=True), targets_BC.to(device, non_blocking=True)
                )
            loss.item()
            return train / (time.perf_counter() - started)

        loops: dict[str, Callable[[], float]] = {
            "bare": bare_epoch,
            "trial": lambda: plain.run_epoch()["images_per_second"],
            "trial, distorted": lambda: busy.run_epoch()["images_per_second"],
            "PNG": usual_epoch,
        }
        rates: dict[str, list[float]] = {name: [] for name in loops}
        for _ in tqdm(range(options.epochs), desc="epochs of each loop", unit="epoch", mininterval=2):
            for name, epoch in loops.items():
                rates[name].append(epoch())

        where = torch.cuda.get_device_name(device) if on_gpu else f"CPU, {torch.get_num_threads()} threads"
        print(
            f"{tower}, {train} images of {encoder.geometry.size} px, batch {options.batch_size}, "
            f"{plain.precision}, {where}, torch {torch.__version__}"
        )
        best = {name: max(values) for name, values in rates.items()}
        print(f"{'loop':<18}{'images/s':>10}{'of bare':>10}{'waiting':>10}")
        for name, rate in best.items():
            trial = {"trial": plain, "trial, distorted": busy}.get(name)
            waiting = "" if trial is None else f"{max(p['data_wait_share'] for p in trial.state.curve):.1%}"
            print(f"{name:<18}{rate:>10.1f}{rate / best['bare']:>10.1%}{waiting:>10}")
        print(f"peak memory: {max(point['peak_device_memory_mb'] for point in plain.state.curve):,.0f} MiB")
        seconds = [point["seconds"] for point in plain.state.curve]
        print(
            f"{len(seconds)} epochs of the trial, validation on {len(data.judged_N())} included: "
            f"{sum(seconds):.1f} s"
        )
        started = time.perf_counter()
        size = busy.save_checkpoint(folder).stat().st_size
        print(f"a checkpoint: {size / 2**20:,.0f} MiB, written in {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
