"""What knows nothing of learning to dance: config, files, devices, skeleton, motion, metrics, rendering."""
