"""Named chains of degradations, as text of `datamodules.grammar`."""

# Blur, resizing, noise and JPEG of Real-ESRGAN, Wang et al. 2021 (arXiv 2107.10833), with the numbers of the authors'
# option file train_realesrgan_x4plus.yml. Kernels have 7 to 21 pixels a side; 10 % are sinc filters.
BLUR = """
    0.405 blur {sigma} size 7..21 or 0.225 blur {sigma} oval size 7..21
    or 0.108 blur {sigma} generalised 0.5..4 size 7..21 or 0.027 blur {sigma} oval generalised 0.5..4 size 7..21
    or 0.108 blur {sigma} plateau 1..2 size 7..21 or 0.027 blur {sigma} oval plateau 1..2 size 7..21
    or 0.0375 sinc 0.3333..1 size 7..11 or 0.0625 sinc 0.2..1 size 13..21
"""
NOISE = """
    3 noise 1..{sigma} or 2 noise 1..{sigma} grey or 3 shot 0.05..{shot} or 2 shot 0.05..{shot} grey
"""
REAL = f"""
    {BLUR.format(sigma="0.2..3")},
    0.7 resize 0.15..1 any or 0.2 resize 1..1.5 any or 0.1 resize 1,
    {NOISE.format(sigma=30, shot=3)},
    jpeg 30..95,

    maybe 0.8 {BLUR.format(sigma="0.2..1.5")},
    0.4 resize 0.3..1 any of 1/SCALE or 0.3 resize 1..1.2 any of 1/SCALE or 0.3 resize 1 any of 1/SCALE,
    {NOISE.format(sigma=25, shot=2.5)},

    shuffle (jpeg 30..95, (resize 1 any of 1/SCALE, maybe 0.8 sinc 0.3333..1 size 7..21))
"""

PRESETS = {"real": REAL}  # `real N`, for a scale of N


def preset(name: str, scale: int) -> str:
    """Return the text of a chain whose images are `scale` times smaller."""
    return PRESETS[name].replace("SCALE", str(scale))
