"""The kernels in PyTorch: for tensors on a GPU, and for installations without the compiled ones."""
