"""Many videos: which there are, what is done already, who does the rest."""
