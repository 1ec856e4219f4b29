"""Videos, pictures and web pages of dances."""
