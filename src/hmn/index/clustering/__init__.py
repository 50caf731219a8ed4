"""k-means and the reductions from inner product to cosine or distance."""
