"""Which column of the music features is what. Light to import, for those who never hear a song themselves."""

COLUMNS: dict[str, slice] = {
    "mfcc": slice(0, 20),  # of the log-mel power spectrum, in dB below the song's loudest
    "mfcc_delta": slice(20, 40),  # per step
    "chroma": slice(40, 52),  # of the harmonic part, in [0, 1]; C first
    "onset": slice(52, 53),  # strength of the percussive part, in dB, >= 0
    "beat": slice(53, 54),  # 1 on a tracked beat, else 0
    "tempogram": slice(54, 438),  # autocorrelation of the onsets by lag in steps, in [-1, 1]
}
NUM_FEATURES = COLUMNS["tempogram"].stop
BEAT_COLUMN = COLUMNS["beat"].start
RECIPES = {"standard": 1, "compat": 2}  # counted up when a version's numbers change: older data is made anew
