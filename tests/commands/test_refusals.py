"""Options that would have no effect, or that no number of this range can mean, on the command line: one sentence."""

import pytest

SILENT = "dcgan-digits --trainer.enable_progress_bar false"  # refused by the first batch


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("r3gan-small-mnist --model.r1 0", "there is no key model.r1"),
        ("dcgan-digits --model.augment_options.policy blit", "augment_options has policy without augment"),
        ("dcgan-digits -trainer.max_steps 5", "-trainer.max_steps begins with one dash; expected --trainer.max_steps"),
        ("dcgan-digits --seed_everything -5", "seed_everything is -5; expected 0 to 4294967295"),
        ("dcgan-digits --trainer.profiler 3", "trainer.profiler is 3; expected simple, advanced, pytorch or xla"),
        (
            "dcgan-digits --trainer.callbacks [3]",
            "trainer.callbacks is 3; expected the import path of a class of Callb",
        ),
        (
            "dcgan-digits --trainer.logger.save_dir x",
            "trainer.logger.save_dir is an argument of a class: give --trainer.logger CLASS before it",
        ),
        ("dcgan-digits --model.lr 1e400", "model.lr is inf; expected a finite number above 0"),
        (f"{SILENT} --model.accumulate 1000 --data.batch_size 8", "model.accumulate is 1000; expected at most 8"),
    ],
)
def test_what_means_nothing_is_refused(refused, line, says):
    assert says in refused(f"fit {line}")


def test_what_the_model_reads_may_be_given(gans):
    code, _, err = gans("fit dcgan-digits --model.r1 0 --trainer.max_steps 1 --model.width 2 --print_config")
    assert (code, err) == (0, "")
