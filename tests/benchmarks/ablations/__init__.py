"""Ablations on the sample corpus: what each part of the method is worth, over several seeds."""
