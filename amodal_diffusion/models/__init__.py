"""The networks: how they are built, loaded, conditioned, encoded and decoded."""
