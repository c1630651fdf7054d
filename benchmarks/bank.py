"""What one epoch of one head costs in a bank of K, and how near that is to the machine's matrix products.

    python -m benchmarks.bank                     about a minute on 2 cores
    python -m benchmarks.bank --heads 32 --threads 2 --device cpu

2,670 x 512 features, 14 labels, batch 256, 50 epochs, with the looks at validation and the thresholds in:
all that `train_bank` does. "bce" is a bank of plain heads, "searched" one drawn from the search space, with
its three losses and four normalisations. The peak is that of a square float32 product on the same threads,
and the share counts only the arithmetic of the bank's two products a step.
"""

import argparse
import time
from collections.abc import Sequence

import optuna
import torch

from benchmarks.features import TRAIN, probe_data
from benchmarks.machine import processor
from search_spaces import linear_probe as space
from search_spaces.configuration import Configuration
from trainables.bank_training import BankTraining
from trainables.linear_probe import train_bank

EPOCHS, BATCH = 50, 256


def peak_flops(device: str, size: int = 1024, repeats: int = 100) -> float:
    """Floating-point operations a second of a square float32 product, the best of many."""
    a, b = torch.randn(2, size, size, device=device)
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        (a @ b)[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def draw_configs(heads: int, mix: str) -> list[Configuration]:
    """`heads` configurations: all of plain BCE on standardised features, or as random search draws them."""
    fixed = {"epochs": EPOCHS, **space.plain("projected")}
    if mix == "bce":
        fixed |= {"loss": "bce", "pos_weight_power": 0.0, "normalisation": "standardize"}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [Configuration(space.SPACE, number, space.suggest(study.ask(), fixed)) for number in range(heads)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", type=int, nargs="+", default=[1, 8, 32, 64], help="K, the bank's sizes")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="torch's threads")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest of so many is printed")
    args = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    on = torch.cuda.get_device_name() if args.device.startswith("cuda") else processor()
    print(f"{on}, {torch.get_num_threads()} threads by default, torch {torch.__version__}")
    data, training = probe_data(), BankTraining(batch_size=BATCH)
    # Forward and back, two operations a multiply-add, for an epoch of one head.
    products = 4 * TRAIN * data.features_ND.shape[1] * len(data.labels)
    print("threads     K  bank      ms/epoch/head  share of matrix peak")
    for threads in args.threads:
        torch.set_num_threads(threads)
        peak = peak_flops(args.device)
        for mix in ("bce", "searched"):
            for heads in args.heads:
                configs = draw_configs(heads, mix)
                best = float("inf")
                for _ in range(args.repeats):
                    started = time.perf_counter()
                    train_bank(configs, data, training=training, device=args.device)
                    best = min(best, time.perf_counter() - started)
                one = best / EPOCHS / heads
                print(
                    f"{threads:7d} {heads:5d}  {mix:8s} {one * 1e3:14.2f} {products / one / peak:20.0%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
