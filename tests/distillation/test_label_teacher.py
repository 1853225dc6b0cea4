"""Teachers of classifiers: classes matched by name, answers made once or along, the same either way."""

import pytest

from basics.errors import UserError
from distillation.label_teacher import match_classes

IMAGENET = ["tabby, tabby cat", "Egyptian cat", "crane", "crane, heavy", "red_fox, Vulpes vulpes"]


def test_classes_are_found_by_name_whatever_their_order_case_and_dashes():
    assert match_classes(["Dog", "red-circle", "cat"], ["cat", "dog", "red circle"], "t") == [2, 0, 1]
    assert match_classes(IMAGENET, ["red fox", "tabby cat", "Egyptian_cat"], "t") == [4, 0, 1]


@pytest.mark.parametrize(
    "theirs, ours, words",
    [
        (
            ["cat", "dog"],
            ["cat", "frog"],
            "teacher t has no class 'frog', or several of that name; its 2 classes are cat, dog",
        ),
        (["cat", "dog"], ["bee", "frog"], "no class 'bee', or several of that name nor 1 others"),
        (["crane", "dog", "Crane"], ["crane"], "or several of that name"),
        (["hot dog", "cat"], ["hot_dog", "hot-dog"], "several of our classes are one of teacher t's"),
        (["LABEL_0", "LABEL_1"], ["cat", "frog"], "have no names"),
        (["bird, crane", "machine, crane"], ["crane"], "no class 'crane'"),
    ],
)
def test_a_teacher_without_a_class_of_ours_is_refused(theirs, ours, words):
    with pytest.raises(UserError, match=words):
        match_classes(theirs, ours, "t")
