"""Maps that know where a label usually lies and nothing of the image: what is said of them, on many draws."""

from types import SimpleNamespace

import numpy as np
import pytest

from analysis.inside.saliency.localisation import ATLAS, Localisation
from analysis.inside.saliency.looking import Looking, Maps, SquareMaps
from analysis.inside.saliency.scores import ABOVE_ATLAS, ABOVE_OTHERS, scores
from cohort.geometry import Geometry
from tests.analysis.inside.saliency.regions import pair_of

SIDE, LABELS, PATIENTS = 32, ("A", "B", "C", "D"), 24
TOGETHER = ("study", "layercam x atlas")


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr("analysis.inside.saliency.scores.DRAWS", 999)


def region(rng, place):
    """A square of 3 or 5 pixels around a place that varies from patient to patient."""
    mask_HW = np.zeros((SIDE, SIDE), dtype=bool)
    y, x = np.clip(place + rng.normal(scale=3.0, size=2), 4, SIDE - 5).round().astype(int)
    reach = rng.integers(1, 3)
    mask_HW[y - reach : y + reach + 1, x - reach : x + reach + 1] = True
    return mask_HW


def blob(place, width=5.0):
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / (2 * width**2)).astype(np.float32)


def centre(mask_HW):
    return np.array([axis.mean() for axis in np.nonzero(mask_HW)])


def averages_of(kind, development, seed):
    """Rows of the averages of map x atlas, by metric, under maps of a kind."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(10, SIDE - 10, size=(len(LABELS), 2))
    pairs, before = [], []
    for number, (label, place) in enumerate(zip(LABELS, places, strict=True)):
        for count, into in ((PATIENTS, pairs), (development, before)):
            into += [pair_of(100 * number + n, label, region(rng, place)) for n in range(count)]
    if kind == "usual place":
        cells = [blob(places[LABELS.index(pair.label)]) for pair in pairs]
    else:
        shown = [blob(centre(pair.mask()), 3.0) for pair in pairs]
        if kind == "another patient's":
            order = np.arange(len(pairs)).reshape(len(LABELS), PATIENTS)
            shown = [shown[place] for place in rng.permuted(order, axis=1).ravel()]
        cells = shown
    localisation = Localisation(
        looking=Looking(cohort=SimpleNamespace(labels=LABELS)),
        encoder=SimpleNamespace(),
        pairs=pairs,
        development=before,
        seed=0,
    )
    maps = SquareMaps(cells=cells, sizes=[(SIDE, SIDE)] * len(pairs), geometry=Geometry(SIDE))
    table = scores(
        pairs,
        LABELS,
        {
            (ATLAS, ""): Maps(len(pairs), lambda n: localisation.atlas(pairs[n].label, SIDE, SIDE)),
            TOGETHER: localisation.with_atlas(maps),
        },
        seed=seed,
        family=[TOGETHER],
        fits={TOGETHER: localisation.fits_of_others(maps)},
    )
    own = table[(table["setting"] == TOGETHER[0]) & (table["label"] == "")]
    return own.set_index("metric")


def claims(kind, development, draws):
    """How often the hits are more than the atlas's, and how often more than with other patients' maps."""
    rows = [averages_of(kind, development, seed) for seed in range(draws)]
    return [
        np.mean([(row.loc[metric, "p"] < 0.05) & (row.loc[metric, "value"] > 0) for row in rows])
        for metric in (ABOVE_ATLAS, ABOVE_OTHERS)
    ]


def test_what_is_smoother_beats_an_atlas_of_few_patients_and_not_the_maps_of_others():
    """Of six draws more than one beats the atlas of four patients by looking at no image."""
    above_atlas, above_others = claims("usual place", development=4, draws=6)
    assert above_atlas > 1 / 6 and above_others == 0


def test_the_maps_of_another_patient_are_no_better_than_those_of_others():
    _, above_others = claims("another patient's", development=4, draws=4)
    assert above_others <= 1 / 4


def test_maps_that_see_the_region_hit_more_than_those_of_others():
    _, above_others = claims("own", development=4, draws=2)
    assert above_others == 1
