"""Future frames: sequences, the warp that must be beaten, networks, training, judging, pictures."""
