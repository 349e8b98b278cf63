"""The loss of linear heads and its derivative by the logits: softmax, or a sigmoid per class."""

from __future__ import annotations

import numpy as np


def error_of(logits: np.ndarray, truth: np.ndarray, shares: np.ndarray) -> float:
    """Turn `logits` [classes, folds, rows] into the derivative of the loss by them, in place; return the loss.

    `truth` is int [rows] for a softmax, bool [rows, classes] for sigmoids; `shares` is the weight of each row in the
    loss of each fold, [folds, rows] or [classes, folds, rows].
    """
    return _sigmoids(logits, truth, shares) if truth.ndim == 2 else _softmax(logits, truth, shares)


def _softmax(logits: np.ndarray, labels: np.ndarray, share: np.ndarray) -> float:
    each = np.arange(len(labels))
    logits -= logits.max(axis=0)
    truth = logits[labels, :, each].T
    np.exp(logits, out=logits)
    total = logits.sum(axis=0)
    loss = float((share * (np.log(total) - truth)).sum(dtype=np.float64))
    logits *= share / total
    logits[labels, :, each] -= share.T
    return loss


def _sigmoids(logits: np.ndarray, targets: np.ndarray, share: np.ndarray) -> float:
    """Source of the form that cannot overflow: −log p = max(z, 0) − z·y + log(1 + e^−|z|)."""
    wanted = targets.T[:, None].astype(logits.dtype)
    faded = np.exp(-np.abs(logits))
    loss = float((share * (np.maximum(logits, 0) - logits * wanted + np.log1p(faded))).sum(dtype=np.float64))
    probability = np.where(logits >= 0, 1, faded) / (1 + faded)
    np.multiply(share, probability - wanted, out=logits)
    return loss
