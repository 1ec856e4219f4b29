"""What is read: AIST++, songs, prepared sequences, clips, rollouts, the synthetic sample corpus."""
