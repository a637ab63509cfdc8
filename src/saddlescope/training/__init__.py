"""Training of networks to a stated gradient norm."""
