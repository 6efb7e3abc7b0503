"""SFSeg: the segmentation of a space-time volume as the leading eigenvector of its pixel graph, computed with 3D filters."""

from sftrack.spectral.online import OnlineSFSeg
from sftrack.spectral.power import power_step

__all__ = ["OnlineSFSeg", "power_step"]
