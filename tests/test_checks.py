"""What errors say of classes."""

import pytest

from gans.checks import article


@pytest.mark.parametrize(
    "told",
    [
        "a DCGAN",
        "an SRGAN",
        "an SNGAN",
        "a SAGAN",
        "an R3GAN",
        "an ACGAN",
        "an InfoGAN",
        "an Inpainting",
        "a VAE",
        "a WGANGP",
        "a SPADE",
        "a FastGAN",
        "a ReACGAN",
        "a StyleGAN2",
        "an Autoencoder",
        "a UNet",
        "an UnpairedDigitsDataModule",
        "an MNISTDataModule",
        "a HuggingFaceDataModule",
        "a GAT",
        "a SequenceGAN",
        "an int",
        "a str",
        "a NoneType",
    ],
)
def test_the_article_of_a_name_is_that_of_its_pronunciation(told):
    assert article(told.split()[1]) == told


def test_the_article_of_a_class():
    assert article(int) == "an int"
