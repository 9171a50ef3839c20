"""Stitched networks, and training their stitching layers on the task.

One step, read in order: `_train.py` (data and loop), `_step.py` (the step),
`_stitched.py` (the network).
"""
