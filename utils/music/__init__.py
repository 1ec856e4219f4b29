"""Sound to onsets and beats: the only beat tracker, for features, metrics and pages alike."""
