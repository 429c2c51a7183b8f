"""The error of approximate penalties in half precision."""

from gans.benchmarks.rounding import errors


def test_a_small_sigma_drowns_in_the_rounding_of_bfloat16_and_a_larger_one_does_not() -> None:
    small, large = errors("r3gan", 0.01, 32), errors("r3gan", 0.1, 32)
    assert small["bfloat16"][0] > 2 > large["bfloat16"][0] > 0.5
    assert large["bfloat16"][1] > 0.9
    assert abs(large["float16"][0] - 1) < 0.05 < abs(small["bfloat16"][0] - 1)
