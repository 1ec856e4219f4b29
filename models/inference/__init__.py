"""--dance: songs, prompts, dances and their files."""
