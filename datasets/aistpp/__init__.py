"""Preparation of AIST++ and of other data: annotations and songs -> prepared folders."""
