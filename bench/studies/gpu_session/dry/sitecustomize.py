"""Python processes with this folder in PYTHONPATH pretend to have a GPU: so a dry session reaches all of them."""

from bench.studies.gpu_session.pretend import pretended_cuda

pretending = pretended_cuda()
pretending.__enter__()
