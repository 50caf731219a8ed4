"""Which cells a training softmax runs over: the strategies of Chandar et al. 2016."""
