"""--eval and --anl: dances, their rows of metrics, codebook analysis, reports."""
