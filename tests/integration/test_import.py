"""'import': a guest out of CIJOE's variables, every one of them accounted for."""

import json

GEOMETRY = {"num_grp": 4, "num_pu": 4, "num_chk": 100, "num_sec": 400, "sec_size": 4096, "md_size": 16,
            "ws_min": 12, "ws_opt": 24, "mw_cunits": 0}


def env_2018(guests):
    """A target_env.sh of 2018, sourced."""
    path = f"{guests}/emujoe"
    return {"SSH_USER": "root", "SSH_HOST": "localhost", "SSH_PORT": "2022", "QEMU_HOST": "localhost",
            "QEMU_HOST_USER": "root", "QEMU_BIN": "/opt/qemu-nvme/bin/qemu-system-x86_64",
            "QEMU_GUESTS": str(guests), "QEMU_GUEST_NAME": "emujoe", "QEMU_GUEST_PATH": path,
            "QEMU_GUEST_BOOT_IMG": f"{path}/boot.qcow2", "QEMU_GUEST_CONSOLE": "file", "QEMU_NVME_ID": "cij_nvme",
            "QEMU_NVME_LINES": "100", "QEMU_NVME_NUM_GRP": "4", "QEMU_NVME_NUM_PU": "4", "QEMU_NVME_NUM_SEC": "400",
            "QEMU_NVME_SEC_SIZE": "4096", "QEMU_NVME_MS": "16", "QEMU_NVME_WS_MIN": "12", "QEMU_NVME_WS_OPT": "24",
            "QEMU_NVME_MW_CUNITS": "0", "NVME_DEV_NAME": "nvme0n1"}


def config(daemon, guest):
    return json.loads((daemon.guests / guest / "guest.json").read_text())


def statuses(reply):
    return {v["name"]: v["status"] for v in reply["variables"]}


def test_2018(daemon):
    (daemon.folder("emujoe") / "boot.qcow2").touch()
    env = env_2018(daemon.guests)
    reply = json.loads(daemon.ctl("--json", "import", env=env).stdout)
    assert config(daemon, "emujoe") == {
        "qemu_home": "/opt/qemu-nvme", "boot": {"image": "boot.qcow2"}, "ssh": {"user": "root"},
        "devices": [{"id": "cij_nvme", "type": "ocssd", **GEOMETRY}]}
    # Every variable is accounted for.
    assert set(statuses(reply)) == {k for k in env if k.startswith("QEMU_")} | {"SSH_USER", "SSH_PORT"}
    assert statuses(reply)["QEMU_NVME_MW_CUNITS"] == "used"
    # Everybody's port: two guests of one machine cannot both have it. Another one is meant.
    assert statuses(reply)["SSH_PORT"] == "ignored"
    other = json.loads(daemon.ctl("--json", "import", "--dry-run", "other", env={**env, "SSH_PORT": "2222"}).stdout)
    assert statuses(other)["SSH_PORT"] == "used"
    assert statuses(reply)["QEMU_GUEST_CONSOLE"] == "ignored" == statuses(reply)["QEMU_HOST_USER"]
    done = daemon.ctl("import", env=env, code=65)
    assert "has a guest.json already" in done.stderr


def test_2019_with_mistakes(daemon, tmp_path):
    (tmp_path / "bzImage").touch()
    (tmp_path / "fails.txt").write_text("grp=0 pu=0 chk=5 resetfail_prob=100\n")
    env = {"QEMU_GUEST_NAME": "new", "QEMU_GUEST_KERNEL": str(tmp_path / "bzImage"), "QEMU_GUEST_MEM": "2048",
           "QEMU_GUEST_SMP": "4", "QEMU_DEV_ID": "ocssd0", "QEMU_DEV_MDTS": "7", "QEMU_OCSSD": "1",
           "QEMU_OCSSD_NUM_GRP": "2", "QEMU_OCSSD_LBADS": "4096", "QEMU_OCSSD_EARLY_RESET": "false",
           "QEMU_OCSSD_RESETFAIL": str(tmp_path / "fails.txt"), "QEMU_OCSSD_WRITEFAIL": "",
           "QEMU_OCSSD_NUM_GPR": "2", "QEMU_NVME_LINES": "100", "QEMU_ARGS_EXTRA": "-rtc 'base=utc,clock=vm'"}
    done = daemon.ctl("import", "--dry-run", env=env)
    assert not (daemon.guests / "new").exists()
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "did you mean QEMU_OCSSD_NUM_GRP?" in lines["QEMU_OCSSD_NUM_GPR"] and "unknown" in lines["QEMU_OCSSD_NUM_GPR"]
    assert "empty" in lines["QEMU_OCSSD_WRITEFAIL"]
    assert "devices.ocssd0.num_grp" in lines["QEMU_OCSSD_NUM_GRP"]
    assert "newer" in lines["QEMU_NVME_LINES"]
    daemon.ctl("import", env=env)
    got = config(daemon, "new")
    assert got["devices"] == [{"id": "ocssd0", "type": "ocssd", "mdts": 7, "early_reset": False, "sec_size": 4096,
                               "num_grp": 2, "resetfail": str(tmp_path / "fails.txt")}]
    assert (got["memory"], got["cpus"]) == ("2048M", 4)
    assert got["extra_args"] == ["-rtc", "base=utc,clock=vm"]
    assert daemon.show("new")["memory_bytes"] == 2 << 30


def test_bad_values(daemon, tmp_path):
    base = {"QEMU_GUEST_NAME": "x"}
    for more, words in [({"QEMU_NVME_LINES": "many"}, "QEMU_NVME_LINES is 'many': it must be a whole number"),
                        ({"QEMU_GUEST_BOOT_IMG": "/nowhere/b"}, "QEMU_GUEST_BOOT_IMG: '/nowhere/b': No such file"),
                        ({"QEMU_GUEST_MEM": "lots"}, "it must be a size"),
                        ({"QEMU_GUEST_KERNEL": "1"}, "QEMU_GUEST_PATH, which is not set"),
                        ({"QEMU_ARGS_EXTRA": "-rtc 'base"}, "quotes are closed")]:
        done = daemon.ctl("import", env={**base, **more}, code=65)
        assert words in done.stderr
    (tmp_path / "bzImage").touch()
    done = daemon.ctl("import", env={**base, "QEMU_GUEST_KERNEL": str(tmp_path / "bzImage"), "QEMU_NVME_WS_MIN": "5"},
                      code=78)
    assert "devices[0].ws_opt" in done.stderr
    assert not (daemon.guests / "x").exists()
    daemon.ctl("import", env={}, code=64)


def test_nothing_was_sourced(daemon):
    done = daemon.ctl("import", "new", code=65)
    assert "none of CIJOE's variables" in done.stderr and "source target_env.sh" in done.stderr
    assert list(daemon.guests.iterdir()) == []


def test_plain_nvme(daemon, tmp_path):
    (tmp_path / "bzImage").touch()
    env = {"QEMU_GUEST_PATH": str(tmp_path), "QEMU_GUEST_KERNEL": "1", "QEMU_DEV_ID": "n", "QEMU_OCSSD_NUM_PU": "4"}
    reply = json.loads(daemon.ctl("--json", "import", "p", env=env).stdout)
    assert statuses(reply)["QEMU_OCSSD_NUM_PU"] == "ignored"
    assert config(daemon, "p") == {"kernel": {"image": str(tmp_path / "bzImage")},
                                   "devices": [{"id": "n", "type": "nvme"}]}
