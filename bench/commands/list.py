"""`python -m bench list`: the suites, methods and metrics that exist."""

from tabulate import tabulate

from bench.harness.suite_spec import cells_of


def list_() -> int:
    """Print the suites with their axes, the methods and the metrics."""
    from bench.methods import METHODS  # noqa: PLC0415  (loads torch, which --help need not)
    from bench.suites import SUITES  # noqa: PLC0415
    from metrics import METRICS  # noqa: PLC0415

    for name, suite in SUITES.items():
        print(f"{name}, {len(cells_of(suite, {}))} cells: {suite.question}")
        settings = [(axis, ", ".join(map(str, values))) for axis, values in suite.axes.items()]
        settings += [(axis, str(value)) for axis, value in suite.fixed.items()]
        print(tabulate(settings, headers=("--set", "values"), disable_numparse=True) + "\n")
    print(
        tabulate(
            [(name, method.paper, method.summary) for name, method in METHODS.items()], headers=("method", "paper", "")
        )
    )
    print()
    print(
        tabulate(
            [(name, metric.unit, metric.better, metric.meaning) for name, metric in METRICS.items()],
            headers=("metric", "unit", "better", ""),
        )
    )
    return 0
