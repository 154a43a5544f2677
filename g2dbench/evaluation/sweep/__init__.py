"""Many cells on many cores, GPUs or machines: grids, plans, and the engines that run them."""
