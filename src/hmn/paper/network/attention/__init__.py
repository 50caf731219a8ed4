"""How the network of a row attends in training and searches at test time."""
