"""The collapse alarm: each way to go wrong sounds its own warning, good captions sound none."""

import pytest

from scoring.collapse import FEW_STEPS, MIN_PICTURES, collapse_warnings, format_collapse, measure_collapse, too_few

COLOURS = ["red", "blue", "green", "white", "black", "brown", "pink", "grey"]
THINGS = ["dog", "cat", "car", "bike", "boat"]
SCENES = [(colour, thing) for colour in COLOURS for thing in THINGS]  # 40 pictures
REFERENCES = [[f"a {c} {t} on a street", f"there is a {t} that is {c}"] for c, t in SCENES]
GOOD = [f"a {c} {t} is on a street" for c, t in SCENES]


def warnings(captions=GOOD, finished=None, references=REFERENCES):
    return collapse_warnings(measure_collapse(captions, finished or [True] * len(captions), references))


def test_good_captions_sound_no_alarm():
    assert warnings() == []


def test_one_caption_for_all_pictures_is_named_with_what_to_try():
    found = " ".join(warnings(["a man walks the runway"] * 40))
    assert "says the same of most pictures" in found and '"a man walks the runway"' in found
    assert "LEARNING_RATE" in found
    assert "pictures are not used" in found


def test_a_commonest_caption_is_named_among_different_ones():
    (found,) = warnings(["a red dog on a street"] * 11 + GOOD[11:], [True] * 40, [[GOOD[0]]] * 11 + REFERENCES[11:])
    assert "said of 28% of the pictures" in found


def test_captions_that_never_end():
    (found,) = warnings(finished=[i % 5 > 0 for i in range(40)])
    assert "20% of the captions never end" in found


@pytest.mark.parametrize("tail", [" street street", " on a street on a street", " post post post post"])
def test_words_over_and_over(tail):
    (found,) = warnings([caption + tail for caption in GOOD])
    assert "same words twice in a row" in found


def test_captions_of_other_pictures():
    moved = GOOD[20:] + GOOD[:20]
    (found,) = warnings(moved)
    assert "the pictures are not used" in found


def test_a_handful_of_pictures_says_nothing_but_that_it_does_and_that_all_have_one_caption():
    few = MIN_PICTURES - 1
    assert warnings(["a dog", *["a cat"] * (few - 1)], references=REFERENCES[:few]) == []
    (found,) = warnings(["a dog"] * 2, references=REFERENCES[:2])
    assert "said of 100% of the pictures" in found
    assert too_few(few) and not too_few(MIN_PICTURES)


def test_after_few_steps_the_advice_is_to_train_longer():
    measures = measure_collapse(["a dog"] * 40, [True] * 40, REFERENCES)
    early, late = collapse_warnings(measures, 12), collapse_warnings(measures, FEW_STEPS)
    assert all("Only 12 optimizer steps so far: train longer" in text for text in early)
    assert "lower LEARNING_RATE" in " ".join(late) and "LEARNING_RATE" not in " ".join(early)


def test_the_line_of_the_log_names_every_measure():
    line = format_collapse(measure_collapse(GOOD, [True] * 40, REFERENCES))
    for word in ("100% distinct", "commonest 2.5%", "unended 0.0%", "repeating 0.0%", "shuffled"):
        assert word in line
