"""A dance leaves the program."""
