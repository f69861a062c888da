"""All suites by name. A new one is an entry of SUITES, most often `replace(POCKET, ...)`."""

from bench.harness.suite_spec import Suite
from bench.kernels.kernel_suite import KERNEL_SUITE
from bench.speed.approximations import APPROXIMATION_SUITE
from bench.speed.knob_suite import KNOB_SUITE
from bench.speed.speed_suites import MEMORY_SUITE, SPEED_SUITE
from bench.videos.instruments.instrument_suite import INSTRUMENT_SUITE
from bench.videos.load.load_suite import LOAD_SUITE
from bench.videos.video_suites import VIDEO_SUITES

SUITES: dict[str, Suite] = {
    **VIDEO_SUITES,
    "kernels": KERNEL_SUITE,
    "speed": SPEED_SUITE,
    "approximations": APPROXIMATION_SUITE,
    "knobs": KNOB_SUITE,
    "memory": MEMORY_SUITE,
    "load": LOAD_SUITE,
    "instruments": INSTRUMENT_SUITE,
}
