"""Several labels as one number."""

import numpy as np

from scoring.label_groups import domain_scores, domain_targets, macro

NAN = np.nan


def test_macro_leaves_out_what_the_data_leave_undefined_and_counts_the_rest():
    value, count = macro(np.array([[0.5, NAN, 0.1], [NAN, NAN, NAN]]))
    np.testing.assert_array_equal(value, [0.3, NAN])
    np.testing.assert_array_equal(count, [2, 0])
    value, count = macro(np.array([0.5, NAN, 0.1]), np.array([False, True, True]))
    assert (value, count) == (0.1, 1)


def test_a_domain_is_positive_where_any_of_its_labels_is_and_unknown_where_a_mask_leaves_it_open():
    domains = {"heart": [0, 2], "bone": [1]}
    targets_NC = np.array([[1, 0, NAN], [0, 1, 0], [0, NAN, NAN]])
    expected_ND = [[1, 0], [0, 1], [NAN, NAN]]
    np.testing.assert_array_equal(domain_targets(targets_NC, domains), expected_ND)
    scores_NC = np.array([[0.1, 0.2, 0.3], [0.4, 0.3, 0.2], [0, 0, 0]])
    np.testing.assert_array_equal(domain_scores(scores_NC, domains), [[0.3, 0.2], [0.4, 0.3], [0, 0]])
    assert domain_scores(scores_NC > 0.25, domains).tolist() == [
        [True, False],
        [True, True],
        [False, False],
    ]
