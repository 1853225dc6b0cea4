"""What flags say of a search, over what a captioner's own settings do."""

import pytest

from networks.decoding_options import DecodingFlags, DecodingOptions

OWN = DecodingOptions(20, beam_size=3, length_penalty=0.5, top_k=7)


def over(own=OWN, **said) -> tuple:
    options = DecodingFlags(**said).over(own)
    assert options.problems() == []
    return options.beam_size, options.num_captions, options.temperature


def test_what_no_flag_says_is_the_captioners_own():
    assert DecodingFlags().over(OWN) == OWN
    said = DecodingFlags(beam=1, length_penalty=0.0, top_k=0).over(OWN)
    assert (said.beam_size, said.length_penalty, said.top_k) == (1, 0.0, 0)


def test_more_captions_than_beams_take_as_many_beams():
    assert over(num_captions=2) == (3, 2, 0) and over(num_captions=5) == (5, 5, 0)
    assert DecodingFlags(beam=2, num_captions=5).over(OWN).problems()


def test_sampling_is_without_the_captioners_beams():
    assert over(temperature=0.8) == (1, 1, 0.8) and over(temperature=0.8, num_captions=4) == (1, 4, 0.8)
    assert DecodingFlags(beam=2, temperature=0.8).over(OWN).problems()


@pytest.mark.parametrize(
    "said, beam, temperature", [({}, 1, 0.7), ({"beam": 1}, 1, 0.7), ({"beam": 2}, 2, 0), ({"temperature": 0}, 3, 0)]
)
def test_a_captioner_that_samples_by_itself_gives_way_to_beams(said, beam, temperature):
    own = DecodingOptions(20, beam_size=3, temperature=0.7)
    assert over(own, **said) == (beam, 1, temperature)
