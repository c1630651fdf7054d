"""Maps and annotated regions on the test images: all that the report says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from analysis.inside.models import Models, Setting
from analysis.inside.saliency import deletion, tables
from analysis.inside.saliency.annotated import Pair, annotated_pairs, by_people
from analysis.inside.saliency.decisions import decided, usual_places
from analysis.inside.saliency.figures import Line, cascade, deletion_curves, sheet
from analysis.inside.saliency.localisation import (
    ATLAS,
    CENTRE,
    RANDOM,
    SANITY_PAIRS,
    Localisation,
    centre_map,
    random_map,
)
from analysis.inside.saliency.looking import Looking
from analysis.inside.saliency.scores import ALL, Key, Scores, scores
from analysis.section import Folded, Part, Picture, Words
from cohort.errors import InputError
from scoring.intervals import MIN_PATIENTS
from vlm.saliency import RELEVANCE, saliency_maps
from vlm.saliency.layers import PUBLISHED_LAYERS
from vlm.saliency.legrad import LEGRAD

METHOD = "layercam"
"""By which settings are compared."""
OTHERS = ("gradcam", RELEVANCE, LEGRAD)
"""Of the answer as well."""
SHIFTS = 3
"""Positions a side of the answer's finer maps; chosen on the sample's development patients."""
FINE = f"{METHOD}, {SHIFTS} x {SHIFTS} positions"
WITH_ATLAS = f"{METHOD} x atlas"
SHOWN = 6
"""Labels of the figure of maps, those with the most regions."""
BASELINES_DRAWN = 2
"""Floors that look at each image: EigenCAM and the input gradient."""
BLURRED = 16
"""Regions at most of the deletion and insertion curves."""


@dataclass(kw_only=True, eq=False)
class Regions:
    """The annotated test images under the settings that are compared."""

    models: Models
    localisation: Localisation
    settings: Sequence[Setting]
    refused: dict[str, str] = field(default_factory=dict)
    """What has no map, and why."""
    maps: dict[Key, Sequence[np.ndarray]] = field(default_factory=dict)
    """A map a pair."""

    @classmethod
    def of(
        cls, models: Models, looking: Looking, pairs: Sequence[Pair], settings: Sequence[Setting]
    ) -> Regions:
        localisation = Localisation(
            looking=looking,
            encoder=models.best.encoder,
            pairs=pairs,
            development=annotated_pairs(models.judgement.cohort, models.data.rows_N),
            seed=models.judgement.study.seed,
        )
        return cls(models=models, localisation=localisation, settings=settings)

    @property
    def best(self) -> Setting:
        return Setting(self.models.judgement.answer, self.models.best)

    @property
    def compared(self) -> list[Key]:
        """What is tested against the atlas: each setting's maps, and the answer's finer ones."""
        return [*((row.name, METHOD) for row in self.settings), (self.best.name, FINE)]

    def parts(self) -> tuple[list[Part], list[pd.DataFrame], list[str]]:
        """What stands on the page, rows of `saliency.csv`, and lines for the terminal."""
        models, localisation, seed = self.models, self.localisation, self.models.judgement.study.seed
        fine, together = (self.best.name, FINE), (self.best.name, WITH_ATLAS)
        sanity, layers = self._drawn()
        table = scores(
            localisation.pairs,
            localisation.labels,
            self.maps,
            seed,
            decided={
                row.name: decided(models.judgement.split, row, localisation.looks) for row in self.settings
            },
            family=self.compared,
            fits={together: localisation.fits_of_others(self.maps[fine])} if fine in self.maps else None,
        )
        usual = usual_places(models.judgement.split, self.best, localisation, METHOD, seed)
        blurred, curves = self._curves()
        spoken = next(key for key in (fine, (self.best.name, METHOD)) if key in self.maps)
        lines = [
            *tables.each_label(table, models.judgement.cohort, spoken),
            tables.average(table, models.judgement.cohort, spoken, together),
        ]
        parts: list[Part] = [
            Words(lines=lines[:-1]),
            tables.by_label(table, models.judgement.cohort, [*self.compared, (ATLAS, "")], spoken),
            Words(text=lines[-1]),
        ]
        if tables.averaged(table):
            parts.append(tables.averages(table[~table["method"].isin(layers.values())], spoken))
        parts.append(Words(text=NOTE, kind="note"))
        if noted := tables.ceilings(localisation):
            parts.append(Words(lines=noted, kind="note"))
        if models.judgement.study.images:
            parts.append(self._sheet())
        parts += [
            Words(text=said)
            for said in (tables.by_decision(table, spoken), tables.usual_places(usual))
            if said
        ]
        parts += [
            *self._sanity(sanity),
            Folded(
                title="By size, by number of regions and by decision",
                parts=[tables.by_stratum(table, [*self.compared, (ATLAS, "")])],
            ),
            Folded(
                title="Layer by layer, over all regions",
                parts=[
                    tables.layers(table, self.best.name, layers),
                    Words(lines=self._published(), kind="note"),
                ],
            ),
            *curves,
        ]
        return parts, [table, usual, blurred], lines

    def _drawn(self) -> tuple[list[tuple[str, float]], dict[str, str]]:
        """What `Localisation.sanity` finds, and layer -> the method that its maps have in the tables, once
        all maps are drawn."""
        localisation, regions = self.localisation, len(self.localisation.pairs)
        kinds = len(self.settings) + len(OTHERS) + SHIFTS**2 + BASELINES_DRAWN + 1
        redrawn = localisation.sanity_maps(self.best.predictor)
        with localisation.looking.counted(regions * kinds + redrawn, "where the model looks") as looking:
            self.localisation = replace(localisation, looking=looking)
            self._draw()
            layers = {name: f"{METHOD} at {name}" for name in self._draw_layers()}
            sanity = self.localisation.sanity(self.best.predictor, METHOD)
        self.localisation = localisation
        return sanity, layers

    def _sanity(self, sanity: Sequence[tuple[str, float]]) -> list[Part]:
        regions = len(self.localisation.pairs)
        return [
            Words(text=tables.verdict(sanity, min(regions, SANITY_PAIRS), regions)),
            Picture(
                name="saliency_sanity",
                figure=cascade(sanity),
                alt="Rank correlation of the maps with those of redrawn weights, from the heads down.",
                caption="Rank correlation of the maps with themselves as weights are redrawn from the top "
                "down (Adebayo et al. 2018).",
                small=True,
            ),
        ]

    def _draw(self) -> None:
        """Floors, each setting's maps, the answer's by every method, and its finer ones, alone and with the
        atlas."""
        localisation = self.localisation
        self.maps |= {
            (baseline, ""): drawn for baseline, drawn in localisation.baselines(self.best.predictor).items()
        }
        jobs = [(row, METHOD, (row.name, METHOD), 1) for row in self.settings]
        jobs += [(self.best, method, (self.best.name, method), 1) for method in OTHERS]
        fine = (self.best.name, FINE)
        jobs.append((self.best, METHOD, fine, SHIFTS))
        for row, method, key, shifts in jobs:
            try:
                self.maps[key] = localisation.maps(row.predictor, method, shifts)
            except InputError as error:
                self.refused[", ".join(key)] = str(error)
        if fine in self.maps:
            self.maps[self.best.name, WITH_ATLAS] = localisation.with_atlas(self.maps[fine])

    def _draw_layers(self) -> list[str]:
        drawn = self.localisation.layers(self.best.predictor, METHOD)
        self.maps |= {(self.best.name, f"{METHOD} at {name}"): maps for name, maps in drawn.items()}
        return list(drawn)

    def _published(self) -> list[str]:
        """What the layer of the publication gives each setting."""
        row, label = self.localisation.looks[0]
        lines = []
        for setting in self.settings:
            image = self.localisation.looking.seen([row], setting.predictor.encoder)
            try:
                saliency_maps(setting.predictor, image, [label], method="gradcam", layer=PUBLISHED_LAYERS)
                said = "there is a gradient, since its heads read the patches as well"
            except InputError as error:
                said = str(error)
            lines.append(f"{setting.name}, at the layer of the publication: {said}")
        return lines

    def _sheet(self) -> Picture:
        pairs, cohort = self.localisation.pairs, self.models.judgement.cohort
        counts = {label: sum(pair.label == label for pair in pairs) for label in self.localisation.labels}
        labels = sorted(counts, key=lambda label: -counts[label])[:SHOWN]
        places = [next(n for n, pair in enumerate(pairs) if pair.label == label) for label in labels]
        columns = [key for key in self.compared if key in self.maps]
        files = cohort.files()
        lines = [
            Line.shrunk(
                cohort.label_name(pairs[place].label),
                files.decode(pairs[place].row),
                [self.maps[key][place] for key in columns],
                pairs[place].mask(),
            )
            for place in places
        ]
        what = (
            "what people drew" if by_people([pairs[place] for place in places]) else "the annotated regions"
        )
        return Picture(
            name="saliency_maps",
            figure=sheet(lines, [f"{name}, finer" if kind == FINE else name for name, kind in columns]),
            alt=f"Test images with {what} and the maps of each setting.",
            caption=f"One test image of each of the labels with the most regions, {METHOD}; outlined {what}. "
            "One colour scale a column, by the square root of the map.",
        )

    def _curves(self) -> tuple[pd.DataFrame, list[Part]]:
        """Deletion and insertion on regions that the answer finds; no part where it finds none."""
        localisation, seed = self.localisation, self.models.judgement.study.seed
        found = np.flatnonzero(decided(self.models.judgement.split, self.best, localisation.looks))
        if not len(found) or (self.best.name, METHOD) not in self.maps:
            return Scores(np.zeros(1, dtype=int), seed).frame(), []
        rng = np.random.default_rng(seed)
        some = np.sort(rng.choice(found, min(len(found), BLURRED), replace=False))
        looks = [localisation.looks[place] for place in some]
        predictor = self.best.predictor
        size = predictor.encoder.geometry.size
        squares = {
            (self.best.name, METHOD): localisation.looking.squares(predictor, looks, METHOD),
            (CENTRE, ""): [centre_map(size, size) for _ in looks],
            (RANDOM, ""): [random_map(rng) for _ in looks],
        }
        images = localisation.looking.seen([row for row, _ in looks], predictor.encoder)
        labels = [label for _, label in looks]
        patients_P = np.unique([localisation.pairs[n].patient for n in some], return_inverse=True)[1]
        groups = {label: np.array([one == label for one in labels]) for label in dict.fromkeys(labels)}
        groups[ALL] = np.ones(len(labels), dtype=bool)
        table, means = Scores(patients_P, seed), {"deletion": {}, "insertion": {}}
        for key, maps in squares.items():
            curves = deletion.curves(predictor, images, labels, maps)
            for (metric, own), curve_NS in zip(means.items(), curves, strict=True):
                table.add(key, metric, deletion.area(curve_NS), groups)
                own[" ".join(filter(None, key))] = curve_NS.mean(axis=0)
        picture = Picture(
            name="saliency_deletion",
            figure=deletion_curves(means["deletion"], means["insertion"]),
            alt="Probability of the label as what a map points at is blurred, and as it alone is shown.",
            caption=f"Mean probability on {len(looks)} regions that {self.best.name} finds (Petsiuk et al. "
            "2018): a map of what counts makes it fall early on the left and rise early on the right. This "
            "asks the model and no person, and blurred images are none that it was trained on.",
        )
        return table.frame(), [Folded(title="Deletion and insertion", parts=[picture])]


NOTE = (
    f"95 % intervals over patients; averages over labels with regions of {MIN_PATIENTS} test patients. A hit "
    "is a map whose largest pixel lies in the region, which is the pointing game at a tolerance of 0 pixels; "
    "mIoU cuts at the threshold that is best on other patients, or at Otsu's; the energy is the map's share "
    "inside, by chance the region's share of what the encoder sees. Random, centre and atlas (of the label's "
    "regions on development patients) do not see the image, EigenCAM does not know the label, the input "
    "gradient looks into no layer; the ceiling is the regions themselves on the cells of a map. "
    f"{SHIFTS} x {SHIFTS} positions: the image is moved within a cell, and the maps are averaged. p of hits "
    "against the atlas's: swapped patient by patient. p of a map times the atlas against other patients' "
    "maps times the atlas, which know all but the image: the larger of those with maps permuted among "
    "patients with the label and with patients' differences swapped. Holm's correction over all of these."
)
