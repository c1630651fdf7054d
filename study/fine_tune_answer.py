"""The answer of a fine-tuning study: what the kept trials' towers give together, under a head fitted anew.

In three steps, each kept only where it is better on the validation split: the towers of the best trial's
method are averaged greedily, the average is drawn back towards the pretrained tower, and heads are fitted on
it by the linear probe's own bank and by logistic regression. Where nothing is better than the best trial,
that is the answer. Many averages on few patients: what was reached on validation is too high, as of any
choice.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from search_spaces import linear_probe as probe_space
from search_spaces.configuration import Configuration
from trainables import checkpoints
from trainables.bank_files import pack_bank, unpack_bank
from trainables.bank_training import BankTraining
from trainables.baselines.base import chosen
from trainables.baselines.logistic import train_logistic
from trainables.checkpoints import CorruptCheckpoint
from trainables.linear_probe import train_bank
from trainables.ranking import ranking
from trainables.records import TrialRecord
from trainables.soup import State, averaged, greedy_soup, interpolated
from trainables.trial_data import FineTuneData, ProbeData
from vlm.embeddings import embed_images, embedding_precision
from vlm.encoders import Encoder

SHARES = (0.25, 0.5, 0.75)
"""Of the tuned tower in what is drawn back towards the pretrained one."""
FILE = "answer.safetensors"
_RECORD, _TOWER = "record", "tower."
_IMAGES = 64


class OutOfTime(Exception):
    """The deadline passed before all was tried."""


def with_weights(encoder: Encoder, state: State) -> Encoder:
    """The encoder with these weights of its image side."""
    backbone, tower = copy.deepcopy((encoder.backbone, encoder.tower))
    backbone.load_state_dict(dict(state))
    return encoder.with_backbone(backbone, tower)


def refitted(data: ProbeData, objective_name: str, batch_size: int, seed: int) -> TrialRecord:
    """The head that is best on validation of the linear probe's warm starts and of logistic regressions."""
    (kind,) = data.kinds
    seen = probe_space.plain(kind)
    bank = [
        Configuration(probe_space.SPACE, number, seen | start, seed=seed)
        for number, start in enumerate(probe_space.warm_starts(seen, multiclass=data.multiclass))
    ]
    records = train_bank(
        bank,
        data,
        training=BankTraining(batch_size=batch_size),
        objective_name=objective_name,
        seed=seed,
    )
    regression = chosen(train_logistic(data, objective_name=objective_name, kind=kind))
    return max([regression, *ranking(records)[:1]], key=lambda record: record.objective)


@dataclass(kw_only=True, eq=False)
class TowerJudge:
    """Judges towers by the best head that can be fitted on them."""

    encoder: Encoder
    """The pretrained one, on the device that features are computed on."""
    images: FineTuneData
    given: ProbeData
    """The same rows in the given split, on pretrained features."""
    objective_name: str
    batch_size: int
    seed: int
    deadline: float
    tried: int = 0

    def __call__(self, state: State) -> TrialRecord:
        """That of the head; OutOfTime."""
        if time.time() >= self.deadline:
            raise OutOfTime
        tuned = with_weights(self.encoder, state)
        precision = embedding_precision("auto", tuned)
        data = replace(self.given, features_ND=self._features(tuned, precision), precision=precision)
        self.tried += 1
        return refitted(data, self.objective_name, self.batch_size, self.seed)

    def _features(self, tuned: Encoder, precision: str) -> np.ndarray:
        rows_N, images_NHWC = self.images.rows_N, self.images.images_NHWC
        starts = range(0, len(rows_N), _IMAGES)
        return np.concatenate(
            [
                embed_images(tuned, images_NHWC[rows_N[start : start + _IMAGES]], precision)
                for start in tqdm(starts, desc="a tower's features", unit="batch", leave=False, delay=5)
            ]
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class TunedAnswer:
    """What the kept trials give together."""

    record: TrialRecord
    """Of the head; its parameters say what the tower is made of."""
    state: State
    """Of the image side."""

    @property
    def note(self) -> str:
        """For the reader of a table."""
        params = self.record.params
        members = ", ".join(str(number) for number in params["members"])
        towers = f"the tower of trial {members}"
        if len(params["members"]) > 1:
            towers = f"the average of the towers of trials {members}"
        if params["share"] < 1:
            towers += f", {params['share']:.0%} of the way from the pretrained one"
        return f"{towers}, head fitted anew ({params['head']}), chosen on validation of {params['tried']}"

    def save(self, folder: Path) -> Path:
        """Write it, whole or not at all; returns the file."""
        folder.mkdir(parents=True, exist_ok=True)
        packed = np.frombuffer(pack_bank([self.record]), dtype=np.uint8)
        tensors = {f"{_TOWER}{name}": tensor for name, tensor in self.state.items()}
        checkpoints.write(folder / FILE, tensors | {_RECORD: torch.tensor(packed)}, {})
        return folder / FILE

    @classmethod
    def load(cls, folder: Path) -> TunedAnswer:
        """Read what `save` wrote; CorruptCheckpoint where it is damaged."""
        tensors, _ = checkpoints.read(folder / FILE)
        if _RECORD not in tensors:
            raise CorruptCheckpoint(f"{folder / FILE}: holds no answer")
        (record,) = unpack_bank(tensors[_RECORD].numpy().tobytes(), name=str(folder / FILE))
        towers = {key.removeprefix(_TOWER): one for key, one in tensors.items() if key.startswith(_TOWER)}
        return cls(record=record, state=towers)


def search_answer(
    kept: Sequence[TrialRecord], tuned: Callable[[TrialRecord], Encoder], judge: TowerJudge
) -> tuple[TunedAnswer | None, list[str]]:
    """What is better on validation than the best trial, and lines that say what was tried.

    Args:
        kept: completed trials whose weights are there, the best first.
        tuned: the encoder of one of them.
        judge: has judged nothing yet.

    Returns:
        None where nothing is better.
    """
    best, name = kept[0], judge.objective_name
    alike = [record for record in kept if record.params["method"] == best.params["method"]]
    states = [_state(tuned(record)) for record in alike]
    share = 1.0
    try:
        members, of_soup = greedy_soup(states, judge)
        soup, pretrained = averaged([states[member] for member in members]), _state(judge.encoder)
        head, state = of_soup, soup
        for one in SHARES:
            drawn_back = interpolated(pretrained, soup, one)
            judged = judge(drawn_back)
            if judged.objective > head.objective:
                head, state, share = judged, drawn_back, one
    except OutOfTime:
        return None, ["answer: no time was left to try averages of towers; --resume tries them"]
    numbers = ", ".join(str(alike[member].number) for member in members)
    lines = [
        f"final model: best trial {name} {best.objective:.3f}; tower of {numbers}, head fitted anew "
        f"{of_soup.objective:.3f}; {share:.0%} of the way from the pretrained tower {head.objective:.3f}"
    ]
    if head.objective <= best.objective:
        said = f"final model: trial {best.number} itself, which none of {judge.tried} improved"
        return None, [*lines, said]
    params: dict[str, Any] = {
        "method": best.params["method"],
        "members": [alike[member].number for member in members],
        "share": share,
        "head": f"logistic regression, C = {head.params['C']:g}" if "C" in head.params else "linear probe",
        "tried": judge.tried,
    }
    return TunedAnswer(record=replace(head, number=-1, preset="", params=params), state=state), lines


def _state(encoder: Encoder) -> State:
    return {name: tensor.detach().cpu().clone() for name, tensor in encoder.backbone.state_dict().items()}
