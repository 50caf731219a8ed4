"""The plan for more cells than one machine holds: what is measured here, a model of it, and simulations."""
