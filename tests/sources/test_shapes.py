"""The drawn shapes are the same on every machine."""

from sources.shapes import draw_shapes


def test_the_drawn_shapes_are_the_same_everywhere_and_grow_without_changing(tmp_path):
    few, many = (draw_shapes(tmp_path / str(count), count, seed=42) for count in (40, 60))
    assert all(many[name] == few[name] for name in few)
    assert all((tmp_path / "60" / name).read_bytes() == (tmp_path / "40" / name).read_bytes() for name in few)
