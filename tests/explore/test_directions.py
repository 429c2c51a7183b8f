"""Files of directions, and what a direction changes."""

import pytest
import torch
from safetensors.torch import save_file

from gans.explore import directions


def test_files_are_read_back_and_grow(tmp_path):
    path = tmp_path / "new" / "directions.safetensors"
    first = {"sefa-1": torch.tensor([1.0, 0, 0]), "class-3": torch.tensor([0, 1.0, 0])}
    assert directions.save(path, first, {"method": "sefa"}) == path
    directions.save(path, {"class-3": torch.tensor([0, 0, 1.0])}, {"method": "classifier"})
    found, notes = directions.read(path)
    assert list(found) == ["sefa-1", "class-3"]
    assert found["sefa-1"].tolist() == [1, 0, 0]
    assert found["class-3"].tolist() == [0, 0, 1]
    assert notes == {"sefa-1": {"method": "sefa"}, "class-3": {"method": "classifier"}}
    assert [file.name for file in path.parent.iterdir()] == ["directions.safetensors"]


def test_what_is_no_file_of_directions_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        directions.load(tmp_path / "none")
    (tmp_path / "text").write_text("no")
    with pytest.raises(ValueError, match="contains no directions"):
        directions.load(tmp_path / "text")
    save_file({"a": torch.ones(3)}, tmp_path / "tensors")
    with pytest.raises(ValueError, match="contains no directions"):
        directions.load(tmp_path / "tensors")
    path = directions.save(tmp_path / "a", {"a": torch.ones(3)})
    for wrong in (torch.ones(4), torch.ones(3, 1), torch.tensor([1.0, torch.nan, 0])):
        with pytest.raises(ValueError, match="numbers"):
            directions.save(path, {"b": wrong})
    assert list(directions.load(path)) == ["a"]


def test_the_nearest_name_is_offered():
    known = {"sefa-1": torch.ones(2), "class-3": torch.ones(2)}
    assert list(directions.chosen(known, ["class-3"])) == ["class-3"]
    with pytest.raises(ValueError, match=r"no direction sefa1 \(did you mean sefa-1\?\)"):
        directions.chosen(known, ["sefa1"])


def test_the_effect_of_a_linear_generator_is_that_of_its_columns():
    weight = torch.tensor([[3.0, 0.0], [0.0, 1.0]])

    def generator(z):
        return (z @ weight.T).view(-1, 1, 1, 2)

    z = torch.randn(5, 2)
    assert directions.effect(generator, z, torch.tensor([2.0, 0.0])) == pytest.approx(1.5, rel=1e-5)
    assert directions.effect(generator, z, torch.tensor([0.0, 1.0]), step=2) == pytest.approx(1, rel=1e-5)
    assert 0.5 < directions.random_effect(generator, z) < 2 * 1.5
