"""`gans explore spectrum`: the power of each frequency, of real and of generated images."""

from gans.checks import at_least
from gans.commands.explore_compared import spectra
from gans.commands.explore_flags import add_out, add_space, file_at, parser_of
from gans.commands.explore_real import RealImages, add_data
from gans.commands.explore_subject import subject
from gans.commands.splits import data_of, sets, with_data
from gans.pictures.plot import save_plot, save_table


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    flags = parser_of("spectrum", __doc__)
    add_space(flags)
    flags.add_argument("--samples", type=int, default=2000, help="generated images, and at most as many real ones")
    flags.add_argument("--seed", type=int, default=0, help="of their latents")
    add_out(flags)
    add_data(flags)
    options = with_data(flags, args)
    at_least(1, samples=options.samples)
    if options.reference is not None:
        at_least(1, reference=options.reference)
    path = file_at(options.out, options.checkpoint, "spectrum.png")
    model = subject(
        options.checkpoint,
        options.model,
        options.label,
        options.truncation,
        options.device,
        space=options.space,
        turns=True,
    )
    dataset = sets(data_of(options, flags), options.split)[0]
    real = RealImages(dataset, options.reference or min(len(dataset), options.samples))
    real.check_shape(model.shape, options.checkpoint)
    frequencies, of_real, of_fake = spectra(model, real, options.samples, options.seed)
    across = frequencies.tolist()
    curves = {"real": (across, of_real.tolist()), "generated": (across, of_fake.tolist())}
    print(f"spectrum     {save_plot(curves, path, 'cycles a pixel', 'power', log=True)}")
    columns = {"frequency": across, "real": of_real.tolist(), "generated": of_fake.tolist()}
    print(f"table        {save_table(columns, path.with_suffix('.csv'))}")
    apart = 10 * (of_fake.clamp(min=1e-12) / of_real.clamp(min=1e-12)).log10()
    high = apart[frequencies > 0.25]
    print(f"difference   {apart.abs().mean():.2f} dB on the mean, {high.mean():+.2f} dB above 1/4 cycle a pixel")
