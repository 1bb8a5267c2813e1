"""Clips composited from cut-outs: pictures with alpha that move, cross and hide each other, with the truth beneath.

In reading order: `cutouts` (the pictures), `made` (occluders drawn by code), `poses` (who is where in each frame),
`compositing` (pictures to frames, in exact arithmetic), `tool_errors` (of segmenters and depth networks), `clips` (all
of it, from seeds to clips), `frozen` (the split test-v2).
"""
