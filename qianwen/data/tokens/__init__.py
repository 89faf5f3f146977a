"""From documents to training sequences: token files, mixtures of domains, and the way back to the sources."""
