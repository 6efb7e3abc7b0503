"""SFSeg: the segmentation of a space-time volume as the leading eigenvector of its pixel graph, computed with 3D filters.

`sftrack.spectral.exact` builds the graph's matrix and finds the eigenvector itself, for checking. docs/spectral.md explains all of it.
"""

from sftrack.spectral.fitting import FitResult, FitSettings, fit
from sftrack.spectral.iteration import sfseg
from sftrack.spectral.online import OnlineSFSeg
from sftrack.spectral.plusplus import SFSegPlusPlus, focal_dice_loss
from sftrack.spectral.power import power_step

__all__ = ["FitResult", "FitSettings", "OnlineSFSeg", "SFSegPlusPlus", "fit", "focal_dice_loss", "power_step", "sfseg"]
