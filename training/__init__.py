"""Models, losses, the sample stream and the loop, on torch.

Starts on a machine that has torch, numpy, scipy, soundfile, soxr, pydantic and pyyaml, and nothing else; a
run reports to the small `Tracker` interface, so this package knows of no tracking server and no cluster.
"""

import os

# webdataset reads this when it is imported: shards are data and must never start a shell or unpickle.
os.environ.setdefault("WDS_SECURE", "1")
