"""SFSeg and SFSeg++ on the masks of any video segmentation method: better borders, steadier in time, several methods combined."""

from sftrack.segment.combine import learn, sample
from sftrack.segment.refine import Refinement, refine, smoothed

__all__ = ["Refinement", "learn", "refine", "sample", "smoothed"]
