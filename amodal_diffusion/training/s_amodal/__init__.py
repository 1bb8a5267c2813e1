"""Training of S-AModal: adapters and mask decoder, on single frames."""
