"""The command line of `scripts/benchmark.py`."""

import pytest

from gans.commands import benchmark


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("", "the following arguments are required: SUBCOMMAND"),
        ("stpe", "argument SUBCOMMAND: invalid choice: 'stpe'"),
        ("step --rounds 0", "rounds is 0; expected at least 2"),
        ("step --against naive --models cut", "models has cut; expected gan, dcgan, sngan, sagan with --against naive"),
        ("step --size 0", "size is 0; expected at least 1"),
        ("step --batch_size -1", "batch_size is -1; expected at least 1"),
        ("step --channels 7", "channels is 7; expected 1 (grey), 3 (RGB) or 4 (RGBA)"),
        ("step --size 100000000", "a batch of 64 images of shape (3, 100000000, 100000000) needs"),
    ],
)
def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str], flags: str, says: str) -> None:
    assert benchmark.main(flags.split()) == 2
    assert f"error: {says}" in capsys.readouterr().err.splitlines()[-1]


def test_every_subcommand_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in benchmark.SUBCOMMANDS:
        assert benchmark.main([name, "--help"]) == 0
        assert f"usage: benchmark {name}" in capsys.readouterr().out
