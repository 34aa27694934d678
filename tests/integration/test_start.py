"""Starting, stopping and the words about it, on the real guest and QEMU."""

import json


def test_folder_becomes_running_guest(daemon, tiny):
    daemon.folder("emujoe", tiny.config)
    assert daemon.show("emujoe")["state"] == "stopped"
    daemon.ctl("start", "emujoe", "--wait=ssh")
    view = daemon.show("emujoe")
    assert view["state"] == "running" and view["ready"]
    assert view["boot_ms"] > 0
    done = daemon.ctl("exec", "emujoe", "--", "echo $((6*7))")
    assert done.stdout == "42\n"
    done = daemon.ctl("stop", "emujoe")
    assert "powered off" in done.stderr
    view = daemon.show("emujoe")
    assert (view["state"], view["reason"], view["exit"]) == ("stopped", "stopped", {"code": 0})


def test_fake_guest(daemon, fake):
    daemon.folder("f", fake.config())
    daemon.ctl("start", "f")
    assert daemon.show("f")["state"] == "running"
    daemon.ctl("kill", "f")
