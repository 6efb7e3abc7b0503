"""What the trackers with online learning (DiMP and its kin, ATOM, D3S) share: backbone, sample patches, augmentation, box refinement."""
