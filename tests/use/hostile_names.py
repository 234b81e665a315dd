"""Names that are markup, and a recipe for a corpus of sources that have them."""

IMAGE = "<img src=x onerror=alert(1)>.wav"
SPEAKER = '"><script>'
LICENCE = "</td><svg onload=alert(2)>\u202e'&amp;"
RECIPE = """
name: hostile
seconds: 1.0
splits: {train: 0.6, val: 0.2, test: 0.2}
output: {samples_per_shard: 4}
undistorted: 0.25
stages:
  - {stage: noise, p: 0.8, snr_db: [0, 20]}
  - {stage: clipping, p: 0.3}
  - {stage: codec, p: 0.5, codecs: {mp3: {}, opus: {}}}
  - {stage: final_level, active_level_dbfs: [-36, -20]}
"""
SAMPLES = 24
