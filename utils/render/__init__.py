"""Dances people can look at."""
