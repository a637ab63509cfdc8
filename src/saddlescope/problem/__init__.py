"""Networks, data, losses: everything that makes a loss function of a parameter vector."""
