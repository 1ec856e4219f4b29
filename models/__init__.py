"""What is learnt: the choreographic memory, the motion GPT, the actor-critic."""
