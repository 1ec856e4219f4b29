"""Tools that know neither models nor stages; importing them prepares the environment (utils.environment)."""

from utils.environment import provide_numba_cache, share_processors

share_processors()
provide_numba_cache()
