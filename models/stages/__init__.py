"""Training stages: one file per stage; `registry.py` lists them."""
