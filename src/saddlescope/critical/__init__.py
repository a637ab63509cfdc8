"""Critical points: what they are, shown by the exchange split, dense Hessians and proofs that check each other."""
