"""Stand-ins for what a full UCF-101 run needs and cannot be shipped: a tiny archive, model and networks of the metrics.

`python -m bench ucf101 --standin` and the tests run the code that will meet the real files on these. The videos are
pocket scenes and the weights are random, so scores made with them mean nothing.
"""

THIN = 8  # I3D and C3D have an eighth of the published channels: a sixty-fourth of the work
