"""What results are judged by: boxes as in OTB, masks as in DAVIS, consistency in time as in the SFSeg++ paper."""

from sftrack.metrics.boxes import (
    CONVENTIONS,
    OVERLAP_THRESHOLDS,
    BoxScores,
    Conventions,
    mean_scores,
    score_boxes,
    success_auc,
    success_curve,
)
from sftrack.metrics.masks import BOUNDARY_TOLERANCE, boundary, boundary_f, jaccard
from sftrack.metrics.temporal import consistent_mask, temporal_consistency

__all__ = [
    "BOUNDARY_TOLERANCE",
    "CONVENTIONS",
    "OVERLAP_THRESHOLDS",
    "BoxScores",
    "Conventions",
    "boundary",
    "boundary_f",
    "consistent_mask",
    "jaccard",
    "mean_scores",
    "score_boxes",
    "success_auc",
    "success_curve",
    "temporal_consistency",
]
