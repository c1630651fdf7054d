"""Maps of where predictors look, held against what people drew, beside floors that know nothing of the image.

Shape legend: C labels, H height, W width, P pairs of an image and a label that has a region there, B
resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np
import pandas as pd
from PIL import Image

from cohort.annotations import Annotations
from cohort.geometry import Geometry, apply_geometry, map_to_image
from cohort.image_store import decode_checked
from cohort.manifest import Cohort
from scoring.intervals import average_interval, label_interval
from scoring.localisation import best_threshold, energy_inside, hits, ious, rank_correlation
from scoring.resampling import patient_weights, weighted_mean
from vlm.altered_images import seen_image
from vlm.encoders import Encoder
from vlm.predictor import Predictor
from vlm.saliency import saliency_maps
from vlm.saliency.cams import ZeroGradient, cam
from vlm.saliency.gradient import input_gradient
from vlm.saliency.layers import all_layers, named_layers
from vlm.saliency.randomisation import cascade
from vlm.saliency.target import LabelLogits

RANDOM, CENTRE, ATLAS, EIGENCAM, GRADIENT = FLOORS = (
    "random",
    "centre",
    "atlas",
    "eigencam",
    "input-gradient",
)
CEILING = "ceiling"
"""The regions themselves on the cells of a map, which no map can do better than."""
ATLAS_SIDE = 64
"""Cells of a location atlas a side."""
ATLAS_PATIENTS = 3
"""With a region of the label among those that an atlas is made of; below, that of all labels stands in."""
RANDOM_CELLS = 8
RESAMPLES = 1000
SANITY_PAIRS = 32
"""Pairs at most whose maps are drawn again with redrawn weights, a seeded sample of more."""
METRICS = {
    "hit_rate": "hit rate ↑",
    "pointing_game": "pointing game ↑",
    "miou": "mIoU ↑",
    "energy_inside": "energy inside ↑",
}
AREAS = {"area: below 1 %": (0.0, 0.01), "area: 1 to 5 %": (0.01, 0.05), "area: over 5 %": (0.05, 1.01)}
"""In place of a label: regions by the share of their image."""
COLUMNS = ("setting", "metric", "label", "value", "low", "high", "method", "regions", "patients")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """One image and one label that somebody drew on it."""

    row: int
    """The image's place in the cohort."""
    label: str
    patient: int
    mask_HW: np.ndarray
    """bool, over the decoded image: all readers' regions together."""
    readers: tuple[np.ndarray, ...] = ()
    """The mask of each reader, where several drew the label on the image."""


def annotated_pairs(cohort: Cohort, rows_N: np.ndarray) -> list[Pair]:
    """Every image among these with every label that somebody drew on it; none where nobody drew anything."""
    found = Annotations.open(cohort)
    if found is None:
        return []
    images, patients_N = cohort.images(), cohort.patients_N()
    pairs = []
    for row in rows_N:
        for label in cohort.labels:
            mask_HW = found.mask(images[row], label)
            if mask_HW is None:
                continue
            each = [found.mask(images[row], label, reader) for reader in found.readers]
            readers = tuple(mask for mask in each if mask is not None)
            pairs.append(
                Pair(
                    row=int(row),
                    label=label,
                    patient=int(patients_N[row]),
                    mask_HW=mask_HW,
                    readers=readers if len(readers) > 1 else (),
                )
            )
    return pairs


@dataclass(frozen=True, kw_only=True, eq=False)
class Localisation:
    """Annotated test images as an encoder sees them."""

    cohort: Cohort
    encoder: Encoder
    pairs: Sequence[Pair]
    development: Sequence[Pair]
    """Of other patients, for the atlas."""
    seed: int

    @cached_property
    def seen(self) -> dict[int, np.ndarray]:
        """Image's place -> uint8 (H, W, C), as the encoder takes it."""
        files, digests = self.cohort.files(), self.cohort.column("digest")
        return {
            row: seen_image(decode_checked(files, row, digests[row]), self.cohort, self.encoder)
            for row in dict.fromkeys(pair.row for pair in self.pairs)
        }

    @cached_property
    def labels(self) -> list[str]:
        """Those with a pair, in the cohort's order."""
        drawn = {pair.label for pair in self.pairs}
        return [label for label in self.cohort.labels if label in drawn]

    def cut_off(self) -> tuple[int, int]:
        """How many regions lie partly, and how many wholly, where the encoder does not see the image."""
        partly = wholly = 0
        for pair in self.pairs:
            whole = np.ones((1, 1), dtype=np.float32)
            seen_HW = np.isfinite(map_to_image(whole, *pair.mask_HW.shape, self.encoder.geometry))
            inside = pair.mask_HW & seen_HW
            wholly += not inside.any()
            partly += bool(inside.any() and (pair.mask_HW & ~seen_HW).any())
        return partly, wholly

    def maps(self, predictor: Predictor, method: str) -> list[np.ndarray]:
        """A map a pair, float32 (H, W) over its image, NaN where the encoder does not see it. A label whose
        gradient is zero throughout has nothing on its maps, which hits nothing.

        Raises:
            InputError: as `vlm.saliency.saliency_maps`, ZeroGradient only where all labels have none.
        """
        refused: list[ZeroGradient] = []

        def looked(images: np.ndarray, label: str) -> np.ndarray:
            try:
                return saliency_maps(predictor, images, [label], method=method)[:, 0]
            except ZeroGradient as error:
                refused.append(error)
                return np.zeros((len(images), 1, 1), dtype=np.float32)

        found = self._by_label(looked)
        if len(refused) == len(self.labels):
            raise refused[0]
        return found

    def floors(self, predictor: Predictor) -> dict[str, list[np.ndarray]]:
        """Floor, and the ceiling -> a map a pair. Random, centre and atlas have not seen the image, EigenCAM
        does not know the label, the input gradient looks into no layer."""
        rng = np.random.default_rng(self.seed)
        thrown = [rng.random((RANDOM_CELLS, RANDOM_CELLS)) for _ in self.pairs]
        model = LabelLogits(predictor).to(self.encoder.device).eval()
        return {
            RANDOM: self._over_images(thrown),
            CENTRE: [_centre(*pair.mask_HW.shape) for pair in self.pairs],
            ATLAS: [self._atlas(pair) for pair in self.pairs],
            EIGENCAM: self.maps(predictor, EIGENCAM),
            CEILING: self._ceiling(predictor),
            GRADIENT: self._by_label(
                lambda images, label: input_gradient(
                    model, model.pixels(images), [predictor.labels.index(label)]
                )[:, 0]
            ),
        }

    def _ceiling(self, predictor: Predictor) -> list[np.ndarray]:
        """The share of each cell of a map that lies in the region."""
        first = self.pairs[0]
        cells = saliency_maps(predictor, self.seen[first.row][None], [first.label], method=EIGENCAM).shape[2:]
        size = self.encoder.geometry.size
        square = Geometry(size, self.encoder.geometry.resize_mode, channels=1)
        seen = [apply_geometry(pair.mask_HW.astype(np.uint8) * 255, square) for pair in self.pairs]
        return self._over_images([_means(mask_hw, *cells) for mask_hw in seen])

    def _by_label(self, looked: Callable[[np.ndarray, str], np.ndarray]) -> list[np.ndarray]:
        """`looked(images of a label, the label)`, laid over the images."""
        found: dict[int, np.ndarray] = {}
        for label in self.labels:
            places = [place for place, pair in enumerate(self.pairs) if pair.label == label]
            images = np.stack([self.seen[self.pairs[place].row] for place in places])
            found |= dict(zip(places, looked(images, label), strict=True))
        return self._over_images([found[place] for place in range(len(self.pairs))])

    def _over_images(self, cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [
            map_to_image(map_hw, *pair.mask_HW.shape, self.encoder.geometry)
            for map_hw, pair in zip(cells, self.pairs, strict=True)
        ]

    @cached_property
    def _atlases(self) -> dict[str, np.ndarray]:
        """Label -> how often each cell of an image lies in a region of it; "" of all labels."""
        atlases = {}
        for label in ["", *self.cohort.labels]:
            own = [pair for pair in self.development if label in ("", pair.label)]
            if own and (not label or len({pair.patient for pair in own}) >= ATLAS_PATIENTS):
                atlases[label] = np.mean(
                    [_resized(pair.mask_HW, ATLAS_SIDE, ATLAS_SIDE) for pair in own], axis=0
                )
        return atlases

    def _atlas(self, pair: Pair) -> np.ndarray:
        atlas_hw = self._atlases.get(pair.label, self._atlases.get(""))
        if atlas_hw is None:
            return np.zeros(pair.mask_HW.shape, dtype=np.float32)
        return _resized(atlas_hw, *pair.mask_HW.shape)

    def sanity(self, predictor: Predictor, method: str) -> list[tuple[str, float]]:
        """(what has been redrawn last, mean rank correlation with the maps of the trained weights), from the
        heads down; 0 where the redrawn model has no gradient at all."""
        places = np.arange(len(self.pairs))
        if len(places) > SANITY_PAIRS:
            places = np.sort(
                np.random.default_rng(self.seed).choice(len(places), SANITY_PAIRS, replace=False)
            )
        pairs = [self.pairs[place] for place in places]
        model = LabelLogits(predictor).to(self.encoder.device).eval()
        columns = [predictor.labels.index(pair.label) for pair in pairs]

        # Redrawn heads may read what the trained ones left alone: the layers stay those of the trained.
        names = [layer.name for layer in named_layers(model, "")]

        def drawn(of: LabelLogits) -> list[np.ndarray]:
            layers = [all_layers(of.visual)[name] for name in names]
            return [
                cam(method, of, layers, of.pixels(self.seen[pair.row][None]), [column])[0, 0]
                for pair, column in zip(pairs, columns, strict=True)
            ]

        trained = drawn(model)
        found = []
        for name, redrawn in cascade(model, self.seed):
            try:
                again = drawn(redrawn)
            except ZeroGradient:
                found.append((name, 0.0))
                continue
            found.append((name, float(np.mean(list(map(rank_correlation, trained, again))))))
        return found


def between_readers(pairs: Sequence[Pair]) -> tuple[int, float, float] | None:
    """What people reach against each other, the ceiling of any map: on how many pairs several drew, and over
    these the mean intersection over union of two readers, and how often one's centre of mass lies in the
    other's region. None where nobody drew what another had drawn."""
    overlaps, met = [], []
    drawn = [pair for pair in pairs if pair.readers]
    for pair in drawn:
        for first, second in permutations(pair.readers, 2):
            overlaps.append((first & second).sum() / (first | second).sum())
            y, x = (round(float(axis.mean())) for axis in np.nonzero(first))
            met.append(bool(second[y, x]))
    return (len(drawn), float(np.mean(overlaps)), float(np.mean(met))) if drawn else None


def scores(
    pairs: Sequence[Pair], labels: Sequence[str], maps: dict[tuple[str, str], list[np.ndarray]], seed: int
) -> pd.DataFrame:
    """`saliency.csv`: COLUMNS, of each (setting, method).

    The mean over a label's pairs, an empty label the mean over labels, intervals over patients. The pointing
    game is the hit rate at a tolerance of 0 pixels. `miou` cuts a map at the threshold that is best on other
    patients of the label. `above_atlas` is the difference in hit rate from the location atlas, image by
    image. AREAS stand in place of labels too, and in no mean.
    """
    patients_P = np.unique([pair.patient for pair in pairs], return_inverse=True)[1]
    weights_PB = patient_weights(int(patients_P.max()) + 1, RESAMPLES, seed)
    each = {key: _by_pair(pairs, own, patients_P) for key, own in maps.items()}
    atlas = each.get((ATLAS, ""))
    rows = []
    for (setting, method), values in each.items():
        if atlas is not None and setting not in (*FLOORS, CEILING):
            values = values | {"above_atlas": values["hit_rate"] - atlas["hit_rate"]}
        for metric, value_P in values.items():
            bounds = None if metric == "above_atlas" else (0.0, 1.0)
            of_labels = []
            for label, own_P in _groups(pairs, labels).items():
                patients = len(np.unique(patients_P[own_P]))
                resampled_B = weighted_mean(value_P[own_P, None], patients_P[own_P], weights_PB)[0]
                value = float(value_P[own_P].mean())
                ends = label_interval(value, resampled_B, patients, bounds)
                rows.append((setting, metric, label, value, *ends, method, int(own_P.sum()), patients))
                if label not in AREAS:
                    of_labels.append((value, resampled_B, patients))
            value_C, resampled_CB, patients_C = (np.array(one) for one in zip(*of_labels, strict=True))
            several_C = patients_C >= 2
            ends = (np.nan, np.nan)
            if several_C.any():
                ends = average_interval(
                    value_C[several_C], resampled_CB[several_C], patients_C[several_C], bounds
                )
                value = float(value_C[several_C].mean())
                people = len(np.unique(patients_P))
                rows.append((setting, metric, "", value, *ends, method, len(pairs), people))
    return pd.DataFrame(rows, columns=COLUMNS)


def _groups(pairs: Sequence[Pair], labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Each label, then each of AREAS that any region has -> bool (P,)."""
    area_P = np.array([pair.mask_HW.mean() for pair in pairs])
    groups = {label: np.array([pair.label == label for pair in pairs]) for label in labels}
    groups |= {name: (area_P >= low) & (area_P < high) for name, (low, high) in AREAS.items()}
    return {name: own_P for name, own_P in groups.items() if own_P.any()}


def _by_pair(
    pairs: Sequence[Pair], maps: Sequence[np.ndarray], patients_P: np.ndarray
) -> dict[str, np.ndarray]:
    hit_P = np.array(
        [hits(map_HW, pair.mask_HW) for map_HW, pair in zip(maps, pairs, strict=True)], dtype=float
    )
    ious_PT = np.stack([ious(map_HW, pair.mask_HW) for map_HW, pair in zip(maps, pairs, strict=True)])
    labels_P = np.array([pair.label for pair in pairs])
    cut_P = np.zeros(len(pairs))
    for place in range(len(pairs)):
        others_P = patients_P != patients_P[place]
        same_P = others_P & (labels_P == labels_P[place])
        fitted = same_P if same_P.any() else others_P
        cut_P[place] = ious_PT[place, best_threshold(ious_PT[fitted])] if fitted.any() else np.nan
    inside_P = np.array(
        [energy_inside(map_HW, pair.mask_HW) for map_HW, pair in zip(maps, pairs, strict=True)]
    )
    return {"hit_rate": hit_P, "pointing_game": hit_P, "miou": cut_P, "energy_inside": inside_P}


def _centre(height: int, width: int) -> np.ndarray:
    """Largest in the middle."""
    y, x = ((np.arange(length) + 0.5) / length - 0.5 for length in (height, width))
    return np.exp(-8 * (y[:, None] ** 2 + x[None] ** 2)).astype(np.float32)


def _means(values_HW: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Of as many cells, float32."""
    image = Image.fromarray(values_HW.astype(np.float32))
    return np.asarray(image.resize((columns, rows), Image.Resampling.BOX))


def _resized(values_HW: np.ndarray, height: int, width: int) -> np.ndarray:
    image = Image.fromarray(values_HW.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
