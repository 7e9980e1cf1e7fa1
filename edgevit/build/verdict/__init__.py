"""Which variant is chosen, and the sentences that say why."""
