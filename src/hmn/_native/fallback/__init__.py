"""The search kernels in PyTorch: for CUDA tensors, and where the compiled ones are missing."""
