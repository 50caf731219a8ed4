"""K-maximum-inner-product search: knows no network and no autograd."""
