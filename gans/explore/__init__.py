"""What a generator has learnt: walks, directions, inversion and neighbours of any `z (N, D) -> images (N, C, H, W)`."""
