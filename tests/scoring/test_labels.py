"""Scores of labels are what they are by hand, and their intervals behave."""

import numpy as np
import pytest

from scoring.bootstrap import difference_intervals
from scoring.labels import agreement, score_labels


def scored(probabilities, labels):
    return score_labels(np.log(probabilities), labels)


def test_scores_by_hand():
    """Right, right, wrong; the last of three classes has no picture."""
    scores = scored([[0.8, 0.1, 0.1], [0.3, 0.5, 0.2], [0.6, 0.2, 0.2]], [0, 1, 1])
    assert scores.mean["top-1"] == pytest.approx(2 / 3)
    assert scores.mean["class mean"] == pytest.approx((1 + 1 / 2) / 2)
    assert scores.mean["NLL"] == pytest.approx(-np.log([0.8, 0.5, 0.2]).mean())
    assert scores.support.tolist() == [1, 2, 0]
    assert scores.class_accuracy.tolist() == pytest.approx([1, 0.5, np.nan], nan_ok=True)
    assert scores.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]


def test_calibration_error_by_hand():
    """Bins of 1/15: 0.61 and 0.65 share one (0.6 to 0.667), 0.9 is alone; each bin's gap counts by its pictures."""
    scores = scored([[0.61, 0.39], [0.65, 0.35], [0.9, 0.1]], [0, 1, 0])
    together, alone = abs(1 / 2 - (0.61 + 0.65) / 2), abs(1 - 0.9)
    assert scores.mean["ECE"] == pytest.approx(2 / 3 * together + 1 / 3 * alone)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below_and_one_of_1_to_the_last():
    scores = scored([[0.6, 0.4], [0.605, 0.395], [1 - 1e-17, 1e-17]], [0, 0, 0])
    assert np.argmax(np.abs(scores.excesses()), axis=1)[:2].tolist() == [8, 9]
    assert scores.mean["ECE"] == pytest.approx((0.4 + 0.395 + 0) / 3)


def test_of_equally_likely_classes_the_first_is_answered_and_fills_the_top_5():
    alike = scored(np.full((7, 7), 1 / 7), range(7))
    assert alike.answers.tolist() == [0] * 7 and alike.ranks.tolist() == [*range(7)]
    assert alike.mean["top-1"] == pytest.approx(1 / 7) and alike.mean["top-5"] == pytest.approx(5 / 7)


def test_a_label_of_rank_5_is_in_the_top_5_and_one_of_rank_6_is_not():
    assert scored([[0.3, 0.2, 0.17, 0.13, 0.11, 0.09]] * 2, [4, 5]).mean["top-5"] == 0.5


def test_top_5_of_five_classes_says_nothing_and_is_left_out():
    assert "top-5" not in scored(np.full((1, 5), 0.2), [0]).mean
    assert "top-5" in scored(np.full((1, 6), 1 / 6), [0]).mean


def test_logits_and_probabilities_score_alike_and_certainty_that_errs_is_finite():
    logits = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert score_labels(logits, [0] * 9).mean == pytest.approx(scored(probabilities, [0] * 9).mean, abs=1e-6)
    with np.errstate(divide="ignore"):
        assert 100 < scored([[1.0, 0.0]], [1]).table["NLL"]["high"] < 1000


def many(pictures=200, shift=0.0):
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, pictures)
    logits = random.normal(size=(pictures, 8)) + 2 * np.eye(8)[labels]
    return score_labels(logits + shift * np.eye(8)[labels], labels)


def test_intervals_hold_their_scores_are_the_same_each_time_and_narrow_with_more_pictures():
    few, lots = many(100), many(2000)
    assert few.table == many(100).table and list(few.table) == ["top-1", "top-5", "class mean", "NLL", "ECE"]
    for name in few.mean:
        assert 0 <= few.table[name]["low"] <= few.mean[name] <= few.table[name]["high"]
        assert np.diff(few.intervals()[name]) > np.diff(lots.intervals()[name]) > 0


def test_a_class_that_a_sample_draws_no_picture_of_leaves_no_gap_in_the_class_mean():
    low, high = scored([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]], [0, 0, 1]).intervals()["class mean"]
    assert (low, high) == (1.0, 1.0)


def test_the_difference_of_two_classifiers_on_the_same_pictures_is_clearer_than_each_of_them():
    a, b = many(), many(shift=0.3)
    low, high = difference_intervals(a, b)["top-1"]
    assert 0 < low < b.mean["top-1"] - a.mean["top-1"] < high
    assert high - low < np.diff(a.intervals()["top-1"]) + np.diff(b.intervals()["top-1"])
    assert set(difference_intervals(a, a).values()) == {(0.0, 0.0)}


def test_agreement_is_the_share_of_equal_answers_right_or_wrong():
    a, b = scored([[0.9, 0.1], [0.2, 0.8]], [0, 0]), scored([[0.4, 0.6], [0.1, 0.9]], [0, 0])
    assert agreement(a, b) == 0.5 and agreement(a, a) == 1


@pytest.mark.parametrize(
    "logits, labels, message",
    [
        (np.zeros((2, 3)), [0], "expected"),
        (np.zeros((0, 3)), [], "one picture or more"),
        (np.zeros((1, 3)), [3], "3 classes"),
        (np.zeros((1, 3)), [-1], "3 classes"),
        (np.array([[0.0, np.nan]]), [0], "no finite numbers"),
    ],
)
def test_what_does_not_fit_together_is_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        score_labels(logits, labels)
