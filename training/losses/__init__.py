"""What the networks are trained against: spectral, scale-invariant and distillation losses.

Each file is one family of pure functions of tensors; adversarial losses will be a file of their own here.
"""
