"""`ssiforge evaluate` and `calibrate`: what models do to held-out samples and to real recordings."""
