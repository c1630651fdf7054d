"""Targets and scores drawn for the tests of this room."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

# Few distinct values, so that ties are the rule; all finite.
SCORES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0])


@st.composite
def predictions(draw, masked=True, max_images=30, max_labels=5):
    shape = draw(st.integers(1, max_images)), draw(st.integers(2, max_labels))
    values = [0.0, 1.0, np.nan] if masked else [0.0, 1.0]
    targets_NC = draw(arrays(np.float32, shape, elements=st.sampled_from(values)))
    return targets_NC, draw(arrays(np.float64, shape, elements=SCORES))


def random_bank(heads=4, images=120, labels=6, seed=0):
    rng = np.random.default_rng(seed)
    targets_NC = (rng.random((images, labels)) < rng.uniform(0.05, 0.5, labels)).astype(np.float32)
    targets_NC[rng.random((images, labels)) < 0.1] = np.nan
    return targets_NC, rng.normal(size=(heads, images, labels)) + np.nan_to_num(targets_NC)


def multiclass_bank(heads=3, images=150, labels=4, seed=0, masked=0.1):
    """Targets of which an image has one, or is masked, probabilities that sum to 1, and patients with two
    images or one."""
    rng = np.random.default_rng(seed)
    truth_N = rng.choice(labels, images, p=rng.dirichlet(np.full(labels, 2.0)))
    targets_NC = np.eye(labels, dtype=np.float32)[truth_N]
    probs_KNC = softmax(rng.normal(size=(heads, images, labels)) + targets_NC, axis=-1).round(2)
    probs_KNC[..., 0] += 1 - probs_KNC.sum(-1)
    targets_NC[rng.random(images) < masked] = np.nan
    return targets_NC, np.clip(probs_KNC, 0, 1), rng.integers(0, images * 2 // 3, images)


def drawn(seed: int, images: int = 80, labels: int = 3, patients: int = 50, masked: float = 0.1):
    """Targets with masked cells, rounded scores (so that ties occur) and patient codes from 0."""
    rng = np.random.default_rng(seed)
    targets_NC = (rng.random((images, labels)) < 0.3).astype(float)
    scores_NC = np.round(rng.normal(size=(images, labels)) + targets_NC, 1)
    targets_NC[rng.random((images, labels)) < masked] = np.nan
    patients_N = np.concatenate([np.arange(patients), rng.integers(0, patients, images - patients)])
    return targets_NC, scores_NC, patients_N
