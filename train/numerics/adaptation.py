"""Domain adaptation by local maximum mean discrepancy: the vectors of each class are to lie alike in both corpora.

Source: Zhu, Zhuang, Wang, Ke, Chen, Bian, Xiong and He (2021), Deep Subdomain Adaptation Network for Image
Classification, IEEE Transactions on Neural Networks and Learning Systems 32 (4). No label of the other corpus is used:
what the model itself predicts for it stands in for them.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field

from featurestore.shared.config import Config

SMALLEST = 1e-8


class LMMD(Config):
    """How much, and by which kernels."""

    weight: float = Field(default=0.3, gt=0, le=1000)
    """Of its loss beside that of the task, once it has risen."""
    kernels: int = Field(default=5, ge=1, le=100)
    """Number of Gaussian kernels, whose sum is the kernel."""
    multiple: float = Field(default=2.0, gt=1, le=100)
    """Each kernel's width is so many times that of the one before; that in the middle is the mean squared distance."""
    rising: float = Field(default=10.0, ge=0, le=1e6)
    """How fast the weight rises, 2 / (1 + exp(-rising * share of the training)) - 1; at 0 it is whole at once."""

    def weight_at(self, done: float) -> float:
        """Return the weight when a share of the training, in [0, 1], is done.

        >>> LMMD(weight=0.5).weight_at(0.0), LMMD(weight=0.5, rising=0).weight_at(0.0)
        (0.0, 0.5)
        """
        return self.weight * (2 / (1 + math.exp(-self.rising * done)) - 1 if self.rising else 1.0)

    def __call__(
        self, vectors: torch.Tensor, shares: torch.Tensor, others: torch.Tensor, other_shares: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean over classes of the squared distance between the means of two corpora, a scalar of 0 or more.

        Args:
            vectors: of one corpus, (utterances, dim).
            shares: of each class in each of these, (utterances, classes): one-hot labels.
            others: of the other corpus, (others, dim).
            other_shares: probabilities that the model gives to the classes, (others, classes); no gradient goes there.
        """
        weights, other_weights = _of_each_class(shares), _of_each_class(other_shares.detach())
        signed = torch.cat([weights, -other_weights])  # the three terms of the distance are one quadratic form
        both = (shares.sum(dim=0) > 0) & (other_shares.sum(dim=0) > 0)
        kernel = self.kernel(torch.cat([vectors, others]))
        distances = torch.einsum("ic,ij,jc->c", signed, kernel, signed)
        return (distances * both).sum() / both.sum().clamp(min=1)

    def kernel(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the sum of the kernels between all vectors, (vectors, vectors)."""
        squared = (vectors[:, None] - vectors[None]).square().sum(dim=-1)
        count = len(vectors)
        width = squared.detach().sum() / max(1, count * (count - 1)) / self.multiple ** (self.kernels // 2)
        widths = [(width * self.multiple**number).clamp(min=SMALLEST) for number in range(self.kernels)]
        return torch.stack([torch.exp(-squared / one) for one in widths]).sum(dim=0)


def _of_each_class(shares: torch.Tensor) -> torch.Tensor:
    """Return the weights with which each utterance counts for the mean of each class; they sum to one, or are zero."""
    return shares / shares.sum(dim=0).clamp(min=SMALLEST)
