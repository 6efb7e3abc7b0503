"""What SiamRPN++, SiamBAN and NanoTrack share: crops, the tracking procedure, parts of their networks."""
