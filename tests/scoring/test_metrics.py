"""BLEU, ROUGE-L and CIDEr-D are pycocoevalcap's to 1e-6, as recorded and, where Java is found, as it says today."""

import json

import numpy as np
import pytest
from reference_scores import AVAILABLE, FLICKR8K, RECORDED, reference_scores, scoring_cases
from word_count import WordCount

from scoring import metrics
from scoring.bootstrap import difference_intervals
from scoring.cider_d import CiderD
from scoring.metrics import score_captions
from scoring.penn_treebank import words

recorded = json.loads(RECORDED.read_text(encoding="utf-8"))["scores"]
sets = scoring_cases()


@pytest.mark.parametrize("name", recorded)
def test_scores_are_as_recorded(name):
    if name == "flickr8k" and not FLICKR8K.is_file():
        pytest.skip(f"needs ../shared/data/flickr8k: {FLICKR8K}")
    assert score_captions(*sets[name]).mean == pytest.approx(recorded[name], abs=1e-6)


@pytest.mark.skipif(not AVAILABLE, reason="needs Java and pycocoevalcap")
@pytest.mark.parametrize("name", sets)
def test_the_record_is_what_pycocoevalcap_says(name):
    assert reference_scores(*sets[name]) == pytest.approx(recorded[name], abs=1e-9)


def test_a_perfect_caption_scores_highest():
    references = [["a dog runs in the park"], ["two men ride brown horses"], ["a red car on a road"]]
    perfect = score_captions([row[0] for row in references], references)
    shuffled = score_captions([references[i - 1][0] for i in range(3)], references)
    assert perfect.mean["CIDEr-D"] == pytest.approx(10)
    assert perfect.mean["BLEU-4"] == pytest.approx(1) and perfect.mean["ROUGE-L"] == pytest.approx(1)
    assert shuffled.mean["CIDEr-D"] < 1


def test_mean_of_per_image_scores_is_the_score_where_it_is_a_mean():
    scores = score_captions(*sets["plain"])
    for name in ("ROUGE-L", "CIDEr-D"):
        assert scores.per_image[name].mean() == pytest.approx(scores.mean[name])
    assert {len(values) for values in scores.per_image.values()} == {4}


def test_intervals_hold_the_score_narrow_with_more_pictures_and_repeat():
    captions, references = ["a dog runs", "a cat"] * 20, [["a dog is running"], ["two people walk"]] * 20
    few, many = score_captions(captions[:10], references[:10]), score_captions(captions, references)
    for name in many.mean:
        low, high = many.intervals()[name]
        assert low <= many.mean[name] <= high
    assert np.diff(few.intervals()["ROUGE-L"]) > np.diff(many.intervals()["ROUGE-L"])
    assert many.intervals() == many.intervals()


def test_cider_as_a_reward_is_the_metric_where_references_are_the_same():
    captions, references = sets["plain"]
    reward = CiderD([[words(r) for r in row] for row in references])
    found = [reward.score(words(caption), i) for i, caption in enumerate(captions)]
    assert found == pytest.approx(score_captions(captions, references).per_image["CIDEr-D"].tolist())


@pytest.mark.parametrize("captions, references", [([], []), (["a"], []), (["a"], [[]]), (["a", "b"], [["a"]])], ids=str)
def test_what_does_not_fit_together_is_refused(captions, references):
    with pytest.raises(ValueError, match="captions"):
        score_captions(captions, references)


def test_a_metric_of_ones_own_is_a_line_in_the_registry(monkeypatch):
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, WordCount()))
    captions, references = ["a dog", "a cat sat here", "a"] * 10, [["a dog"], ["a cat"], ["a"]] * 10
    scores = score_captions(captions, references)
    assert list(scores.mean)[-2:] == ["CIDEr-D", "words"] and scores.mean["words"] == pytest.approx(2 / 3)
    assert scores.per_image["words"].tolist() == [0, 2, 0] * 10
    low, high = scores.intervals()["words"]
    assert 0 < low < 2 / 3 < high < 2
    better = score_captions([row[0] for row in references], references)
    assert difference_intervals(scores, better)["words"] == pytest.approx((-high, -low))


def test_a_sample_of_the_images_scores_as_those_images_alone_but_for_the_weights_of_cider():
    captions, references = sets["plain"]
    weights = np.array([[1, 0, 2, 1]])  # the third twice
    numbers = [0, 2, 2, 3]
    alone = score_captions([captions[i] for i in numbers], [references[i] for i in numbers]).mean
    found = score_captions(captions, references).resampled(weights)
    for name in alone.keys() - {"CIDEr-D"}:
        assert found[name][0] == pytest.approx(alone[name])
