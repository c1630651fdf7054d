"""Floors that know nothing of the image, or nothing of the label, beneath maps of where predictors look; and
how much of a map is the model's.

Shape legend: C labels, H height, W width, P pairs of an image and a label that has a region there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from analysis.inside.saliency.annotated import Pair
from analysis.inside.saliency.looking import Look, Looking, Maps, SquareMaps
from cohort.geometry import Geometry, apply_geometry, map_to_image
from cohort.manifest import Cohort
from scoring.localisation import hits, peak, rank_correlation
from scoring.permuted_matches import Matches
from vlm.encoders import Encoder
from vlm.predictor import Predictor
from vlm.saliency.cams import cam, cam_by_layer
from vlm.saliency.gradient import input_gradient
from vlm.saliency.layers import named_layers, named_parts
from vlm.saliency.randomisation import cascade
from vlm.saliency.target import LabelLogits, ZeroGradient

RANDOM, CENTRE, ATLAS, EIGENCAM, GRADIENT = BASELINES = (
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
SANITY_PAIRS = 16
"""Pairs at most whose maps are drawn again with redrawn weights, a seeded sample of more."""
CONTROL_SIDE = 256
"""Pixels of the longer side on which a map is held against other patients' regions: each is, against each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Localisation:
    """Annotated test images as an encoder sees them."""

    looking: Looking
    encoder: Encoder
    """Of the predictor whose baselines are drawn."""
    pairs: Sequence[Pair]
    development: Sequence[Pair]
    """Of other patients, for the atlas."""
    seed: int

    @property
    def cohort(self) -> Cohort:
        return self.looking.cohort

    @cached_property
    def looks(self) -> list[Look]:
        return [(pair.row, pair.label) for pair in self.pairs]

    @cached_property
    def labels(self) -> list[str]:
        """Those with a pair, in the cohort's order."""
        drawn = {pair.label for pair in self.pairs}
        return [label for label in self.cohort.labels if label in drawn]

    def cut_off(self) -> tuple[int, int]:
        """How many regions lie partly, and how many wholly, where the encoder does not see the image."""
        partly = wholly = 0
        for pair in self.pairs:
            mask_HW, seen_HW = pair.mask(), self.seen_part(pair)
            inside = mask_HW & seen_HW
            wholly += not inside.any()
            partly += bool(inside.any() and (mask_HW & ~seen_HW).any())
        return partly, wholly

    def seen_part(self, pair: Pair) -> np.ndarray:
        """bool (H, W): what the encoder sees of a pair's image."""
        return np.isfinite(map_to_image(np.ones((1, 1), np.float32), *pair.size, self.encoder.geometry))

    def maps(self, predictor: Predictor, method: str, shifts: int = 1) -> SquareMaps:
        """A map a pair, as `Looking.maps`."""
        return self.looking.maps(predictor, self.looks, method, shifts)

    def baselines(self, predictor: Predictor) -> dict[str, Sequence[np.ndarray]]:
        """Floor, and the ceiling -> a map a pair. Random, centre and atlas have not seen the image, EigenCAM
        does not know the label, the input gradient looks into no layer."""
        rng = np.random.default_rng(self.seed)
        thrown = [random_map(rng) for _ in self.pairs]
        model = LabelLogits(predictor).to(self.encoder.device).eval()

        def gradient(images: np.ndarray, label: str) -> np.ndarray:
            return input_gradient(model, model.pixels(images), [predictor.labels.index(label)])[:, 0]

        return {
            RANDOM: self._over_images(thrown),
            CENTRE: Maps(len(self.pairs), lambda place: centre_map(*self.pairs[place].size)),
            ATLAS: Maps(len(self.pairs), lambda place: self.atlas_of(place, *self.pairs[place].size)),
            EIGENCAM: self.maps(predictor, EIGENCAM),
            CEILING: self._ceiling(predictor),
            GRADIENT: self._over_images(self.looking.cells(self.looks, self.encoder, gradient)),
        }

    def with_atlas(self, maps: Sequence[np.ndarray]) -> Maps:
        """Each map times the atlas of its label, as a likelihood meets a prior: what is known of where a
        label lies before the image is seen, and what the model says of this image."""
        return Maps(len(maps), lambda place: (own := maps[place]) * self.atlas_of(place, *own.shape))

    def fits_of_others(self, maps: SquareMaps) -> dict[str, Matches]:
        """Label -> whether the map of one pair (column) times the atlas hits the region of another (row) over
        its image: what the same predictor's maps of other patients with the label are worth there."""
        patients_P = np.unique([pair.patient for pair in self.pairs], return_inverse=True)[1]
        found = {}
        for label in self.labels:
            places = [place for place, pair in enumerate(self.pairs) if pair.label == label]
            fits_SS = np.zeros((len(places), len(places)))
            for row, place in enumerate(places):
                mask_HW = self.pairs[place].mask()
                shrunk = min(1.0, CONTROL_SIDE / max(mask_HW.shape))
                size = tuple(max(1, round(side * shrunk)) for side in mask_HW.shape)
                atlas_HW = self.atlas_of(place, *size)
                for column, other in enumerate(places):
                    largest = peak(maps.over(other, *size) * atlas_HW)
                    fits_SS[row, column] = largest is not None and _at(mask_HW, largest, size)
            found[label] = Matches(fits_SS=fits_SS, patients_S=patients_P[places])
        return found

    def atlas_of(self, place: int, height: int, width: int) -> np.ndarray:
        """`atlas` of a pair's label."""
        return self.atlas(self.pairs[place].label, height, width)

    def atlas(self, label: str, height: int, width: int) -> np.ndarray:
        """float32 (H, W): how often the label's regions on other patients lie there; all zero where nobody
        drew on any."""
        atlas_hw = self._atlases.get(label, self._atlases.get(""))
        if atlas_hw is None:
            return np.zeros((height, width), dtype=np.float32)
        return _resized(atlas_hw, height, width)

    def usual_places(self, looks: Sequence[Look], maps: Sequence[np.ndarray]) -> np.ndarray:
        """float64, one a map: 1 where it is largest where the label's own atlas reaches half of its height, 0
        elsewhere and of a map that is the same everywhere, NaN of a label without an atlas of its own."""
        found = np.full(len(looks), np.nan)
        for place, ((_, label), map_HW) in enumerate(zip(looks, maps, strict=True)):
            if label in self._atlases:
                atlas_HW = self.atlas(label, *map_HW.shape)
                found[place] = hits(map_HW, atlas_HW >= atlas_HW.max() / 2)
        return found

    @cached_property
    def _atlases(self) -> dict[str, np.ndarray]:
        """Label -> how often each cell of an image lies in a region of it; "" of all labels."""
        atlases = {}
        for label in ["", *self.cohort.labels]:
            own = [pair for pair in self.development if label in ("", pair.label)]
            if own and (not label or len({pair.patient for pair in own}) >= ATLAS_PATIENTS):
                atlases[label] = np.mean(
                    [_resized(pair.mask(), ATLAS_SIDE, ATLAS_SIDE) for pair in own], axis=0
                )
        return atlases

    def _ceiling(self, predictor: Predictor) -> SquareMaps:
        """The share of each cell of a map that lies in the region."""
        row, label = self.looks[0]
        model = LabelLogits(predictor).to(self.encoder.device).eval()
        x_BCHW = model.pixels(self.looking.seen([row], self.encoder))
        maps = cam_by_layer(
            "layercam", model, named_layers(model, ""), x_BCHW, [predictor.labels.index(label)]
        )
        cells = max(one.shape[2:] for one in maps)
        size = self.encoder.geometry.size
        square = Geometry(size, self.encoder.geometry.resize_mode, channels=1)
        return self._over_images(
            [
                _means(apply_geometry(pair.mask().astype(np.uint8) * 255, square), *cells)
                for pair in self.pairs
            ]
        )

    def _over_images(self, cells: Sequence[np.ndarray]) -> SquareMaps:
        return self.looking.over_images(self.looks, cells, self.encoder)

    def layers(self, predictor: Predictor, method: str) -> dict[str, SquareMaps]:
        """Layer -> a map a pair, of each block's first norm or each stage; a layer at which a label's
        gradient is zero throughout has nothing on that label's maps."""
        model = LabelLogits(predictor).to(predictor.encoder.device).eval()
        layers = [layer for name, layer in model.tower.layers().items() if not name.endswith(".attn")]

        def looked_at(images: np.ndarray, label: str) -> np.ndarray:
            column = predictor.labels.index(label)
            each = cam_by_layer(method, model, layers, model.pixels(images), [column])
            found = np.empty((len(images), len(layers)), dtype=object)
            for place, maps in enumerate(each):
                for image, map_hw in enumerate(maps[:, 0]):
                    found[image, place] = map_hw
            return found

        cells = self.looking.cells(self.looks, predictor.encoder, looked_at)
        return {
            layer.name: self.looking.over_images(self.looks, [one[place] for one in cells], predictor.encoder)
            for place, layer in enumerate(layers)
        }

    def sanity_maps(self, predictor: Predictor) -> int:
        """How many maps `sanity` draws."""
        parts = named_parts(LabelLogits(predictor).tower)
        return min(len(self.pairs), SANITY_PAIRS) * (2 + len(parts))  # trained, and redrawn heads

    def sanity(self, predictor: Predictor, method: str) -> list[tuple[str, float]]:
        """(what has been redrawn last, mean rank correlation with the maps of the trained weights), from the
        heads down, over SANITY_PAIRS at most; 0 where the redrawn model has no gradient at all."""
        rng = np.random.default_rng(self.seed)
        places = np.sort(
            rng.choice(len(self.pairs), min(len(self.pairs), SANITY_PAIRS), replace=False)
        ).tolist()
        looks = [self.looks[place] for place in places]
        model = LabelLogits(predictor).to(self.encoder.device).eval()
        # Redrawn heads may read what the trained ones left alone: the layers stay those of the trained.
        names = [layer.name for layer in named_layers(model, "")]

        def drawn(of: LabelLogits) -> list[np.ndarray]:
            layers = [of.tower.layers()[name] for name in names]
            return self.looking.cells(
                looks,
                self.encoder,
                lambda images, label: cam(
                    method, of, layers, of.pixels(images), [predictor.labels.index(label)]
                )[:, 0],
            )

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


def _at(mask_HW: np.ndarray, place: tuple[int, int], size: tuple[int, int]) -> bool:
    """What a mask says at a pixel of the same image at another size."""
    y, x = (int((at + 0.5) * whole / own) for at, whole, own in zip(place, mask_HW.shape, size, strict=True))
    return bool(mask_HW[y, x])


def random_map(rng: np.random.Generator) -> np.ndarray:
    """Cells that are thrown."""
    return rng.random((RANDOM_CELLS, RANDOM_CELLS))


def centre_map(height: int, width: int) -> np.ndarray:
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
