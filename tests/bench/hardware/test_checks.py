from bench.commands import doctor
from bench.hardware import checks
from bench.studies.gpu_session.fake_nvml import FakeNvml


def look(**card):
    return {finding.what: finding for finding in checks.examine(FakeNvml(**card))}


def test_a_healthy_card_is_described():
    findings = look()
    assert findings["GPU"].observed == "Fake H100, driver 999.1"
    assert findings["clocks"].observed == "SM 1980 of at most 1980 MHz"
    assert (findings["MIG"].observed, findings["ECC"].observed, findings["persistence"].observed) == ("off", "on", "on")
    assert findings["throttling"].state == findings["other processes"].state == "good"
    assert {"load", "threads", "disk", "weights/pocket", "weights/pocket-judges"} <= set(findings)


def test_what_disturbs_is_bad_and_comes_with_advice():
    findings = look(throttle=0x40, processes=[(4242, 1 << 30)])
    assert (findings["throttling"].state, findings["throttling"].observed) == ("bad", "hardware thermal slowdown")
    assert (findings["other processes"].state, findings["other processes"].observed) == ("bad", "4242")
    assert findings["other processes"].advice


def test_what_a_card_does_not_tell_is_a_note():
    findings = look(lacks={"nvmlDeviceGetMigMode", "nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetClockInfo"})
    assert findings["MIG"].state == findings["other processes"].state == "note"
    assert "Not Supported" in findings["clocks"].observed


def test_more_threads_than_cores_and_a_busy_machine_are_bad(monkeypatch):
    monkeypatch.setattr(checks, "_busy_share", lambda: 1.5)
    found = {finding.what: finding for finding in checks._processor(cores=2, threads=4)}
    assert found["load"].state == found["threads"].state == "bad"
    assert found["threads"].advice == "set OMP_NUM_THREADS=2"
    monkeypatch.setattr(checks, "_busy_share", lambda: 0.0)
    assert all(finding.state != "bad" for finding in checks._processor(cores=2, threads=2))


def test_the_exit_code_says_whether_to_measure(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda: iter([checks.Check("load", "bad", "2.00 cores busy", "wait")]))
    assert doctor.doctor() == 4
    assert "timings here would be disturbed: load" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "examine", lambda: iter([checks.Check("load", "good", "idle")]))
    assert doctor.doctor() == 0
