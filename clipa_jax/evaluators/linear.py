"""Linear classifiers on frozen features, fitted exactly or by scikit-learn.

N examples of D features, X = D + 1 columns with the bias, C classes. Arithmetic in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BIAS = 100.0  # the constant feature; so large that the penalty hardly affects the bias
_EPSILON = 1e-5  # added to deviations
_CHUNK = 1 << 15  # examples whose float64 features are held at once


@dataclass(frozen=True)
class Linear:
    """Scores of classes: (x - mean) / deviation @ weights + bias."""

    mean_D: np.ndarray
    deviation_D: np.ndarray
    weights_DC: np.ndarray
    bias_C: np.ndarray

    def scores(self, x_ND: np.ndarray) -> np.ndarray:
        """float64 (N, C)."""
        return ((x_ND - self.mean_D) / self.deviation_D) @ self.weights_DC + self.bias_C


def ridge(x_ND: np.ndarray, label_N: np.ndarray, num_classes: int, l2: float) -> Linear:
    """Least squares to targets of +1 for the right class and -1 for the others, in closed form.

    The protocol of big_vision's few-shot evaluator: features are standardized, the bias is the
    weight of a constant feature of `BIAS`, and l2 (2^10 there), above 0, is added to the diagonal
    of the normal equations, which are solved in the smaller of N and D. A class without an example
    gets scores near -1.
    """
    mean_D = x_ND.mean(axis=0, dtype=np.float64)
    deviation_D = x_ND.std(axis=0, dtype=np.float64) + _EPSILON

    def part(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the design matrix and of the targets."""
        x_BD = (x_ND[rows] - mean_D) / deviation_D
        target_BC = np.where(label_N[rows, None] == np.arange(num_classes), 1.0, -1.0)
        return np.pad(x_BD, ((0, 0), (0, 1)), constant_values=BIAS), target_BC

    examples, columns = len(x_ND), x_ND.shape[1] + 1
    if examples < columns:
        design_NX, target_NC = part(slice(None))
        kernel_NN = design_NX @ design_NX.T + l2 * np.eye(examples)
        weights_XC = design_NX.T @ np.linalg.solve(kernel_NN, target_NC)
    else:
        normal_XX, moment_XC = l2 * np.eye(columns), np.zeros((columns, num_classes))
        for start in range(0, examples, _CHUNK):
            design_BX, target_BC = part(slice(start, start + _CHUNK))
            normal_XX += design_BX.T @ design_BX
            moment_XC += design_BX.T @ target_BC
        weights_XC = np.linalg.solve(normal_XX, moment_XC)
    return Linear(mean_D, deviation_D, weights_XC[:-1], BIAS * weights_XC[-1])


def logistic(x_ND: np.ndarray, label_N: np.ndarray, num_classes: int, l2: float) -> Linear:
    """Multinomial logistic regression by scikit-learn's L-BFGS, without a penalty on the bias.

    Minimizes the summed loss in nats plus l2 / 2 times the squared weights: `C` of scikit-learn
    is 1 / l2. Features are taken as they are, as in CLIP's linear probes. A class without an
    example never wins.
    """
    # A second to import, and only this function needs it.
    from sklearn.linear_model import LogisticRegression

    x_ND = np.asarray(x_ND, np.float64)
    present = np.unique(label_N)
    weights_DC = np.zeros((x_ND.shape[1], num_classes))
    bias_C = np.full(num_classes, -np.inf)
    if len(present) == 1:
        bias_C[present] = 0.0
    else:
        fitted = LogisticRegression(C=1 / l2, max_iter=1_000).fit(x_ND, label_N)
        coef_KD, intercept_K = fitted.coef_, fitted.intercept_
        if len(present) == 2:  # scikit-learn fits the score of the second alone
            coef_KD, intercept_K = np.vstack([0 * coef_KD, coef_KD]), np.append(0.0, intercept_K)
        weights_DC[:, present], bias_C[present] = coef_KD.T, intercept_K
    ones_D = np.ones(x_ND.shape[1])
    return Linear(0 * ones_D, ones_D, weights_DC, bias_C)


Fit = Callable[[np.ndarray, np.ndarray, int, float], Linear]
FITS: dict[str, Fit] = {"ridge": ridge, "logistic": logistic}
