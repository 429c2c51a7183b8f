"""Analysis of any generator `z (N, D) -> images (N, C, H, W)`: walks, directions, inversion and nearest neighbours."""
