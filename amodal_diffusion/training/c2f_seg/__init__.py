"""Training of C2F-Seg: the mask autoencoder, then transformer and refinement together."""
