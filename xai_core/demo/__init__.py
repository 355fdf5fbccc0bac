"""A tiny trained classifier and its generated images with known truth: the embedded default.

``scenes`` draws the images, ``network`` is the classifier and loads its two sets of weights,
``train`` makes the weights again. Only ``network`` and ``train`` import torch.

PYTEST_DONT_REWRITE
"""
