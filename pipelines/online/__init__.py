"""`ssiforge train --online`: fresh samples, rendered while the trainer works."""
