"""`python -m bench doctor`: is this machine fit to measure on?"""

from tabulate import tabulate

from bench.hardware.checks import examine

DISTURBED = 4  # exit code: timings here would be disturbed


def doctor() -> int:
    """Check driver, clocks, MIG, ECC, other processes, threads, load, memory, disk and weights.

    Exit codes: 0 this machine is fit to measure on, 4 something would disturb timings or is broken.
    """
    findings = list(examine())
    print(tabulate([tuple(finding) for finding in findings], headers=("what", "", "observed", "what to do")))
    bad = [finding.what for finding in findings if finding.state == "bad"]
    print(f"\ntimings here would be disturbed: {', '.join(bad)}" if bad else "\nfit to measure on")
    return DISTURBED if bad else 0
