"""One representative vector for the many sentences that describe a state: CLIP-AD (arXiv:2311.00453), section 3.2."""

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np

logger = logging.getLogger(__name__)

# scikit-learn, which takes a second to import, is imported where it is used: the mean and the options do without.

RepVec = Literal["mean", "pca", "kde", "dbscan", "mean_shift"]
KDE_BANDWIDTH = 0.3
MEAN_SHIFT_BANDWIDTH = 2.0


@dataclass(frozen=True)
class RepVecChoice:
    """A method and the parameters of `dbscan`: neighbourhood radius and core points' minimum neighbours."""

    method: RepVec = "mean"
    dbscan_eps: float = 0.5
    dbscan_min_samples: int = 15


def representative_vector(embeddings: np.ndarray, choice: RepVecChoice) -> np.ndarray:
    """Sum up unit-length sentence embeddings [n, D] in one unit vector, float32 [D]."""
    rows = np.asarray(embeddings, dtype=np.float64)
    vector = rows.mean(axis=0)
    if choice.method == "pca":
        from sklearn.decomposition import PCA

        # Scores of the D dimensions on the leading component of the n sentences, signed like the mean row.
        scores = PCA(n_components=1, svd_solver="full").fit_transform(rows.T)[:, 0]
        vector = -scores if scores @ vector < 0 else scores
    elif choice.method == "kde":
        from sklearn.neighbors import KernelDensity

        log_density = KernelDensity(bandwidth=KDE_BANDWIDTH).fit(rows).score_samples(rows)
        vector = np.exp(log_density - log_density.max()) @ rows  # the common factor goes when the length does
    elif choice.method in ("dbscan", "mean_shift"):
        from sklearn.cluster import DBSCAN, MeanShift

        dbscan = DBSCAN(eps=choice.dbscan_eps, min_samples=choice.dbscan_min_samples)
        clustering = dbscan if choice.method == "dbscan" else MeanShift(bandwidth=MEAN_SHIFT_BANDWIDTH)
        labels = clustering.fit_predict(rows)  # of clusters from 0 on; -1 is noise
        if labels.max() < 0:
            remedy = "a larger --dbscan_eps or smaller --dbscan_min_samples would find one"
            logger.warning("no cluster among %d sentences: their mean is used; %s", len(rows), remedy)
        else:
            vector = rows[labels == np.bincount(labels[labels >= 0]).argmax()].mean(axis=0)
    return (vector / np.linalg.norm(vector)).astype(np.float32)
