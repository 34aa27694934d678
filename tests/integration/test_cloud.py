"""create --cloud-image and --box: overlays, seeds and boxes, of images made here."""

import json
import subprocess
import tarfile

import pytest

from harness import HANG


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "cloud.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], check=True)
    return path


def info(path):
    return json.loads(subprocess.run(["qemu-img", "info", "-U", "--output=json", path], capture_output=True, check=True).stdout)


def test_cloud_image(daemon, tiny, image):
    """An overlay and a seed that the guest sees; the image itself is left as it is."""
    before = image.read_bytes()
    daemon.ctl("create", "web", "--cloud-image", image, "--ssh-key", tiny.dir / "id_ed25519.pub", "--disk", "1G",
               "--memory", "256M")
    boot = info(daemon.guests / "web/boot.qcow2")
    assert (boot["format"], boot["virtual-size"], boot["backing-filename"]) == ("qcow2", 1 << 30, str(image))
    assert daemon.show("web")["state"] == "stopped"
    assert daemon.ctl("validate", "web").stdout == "web: ok\n"
    # A cloud image is too large for a test: the tiny system looks at what one would find.
    daemon.ctl("set", "web", f"kernel.image={tiny.dir}/bzImage", f"kernel.initrd={tiny.dir}/initrd.img",
               "kernel.append=console=ttyS0", "accel=tcg")
    daemon.ctl("start", "web", "--wait=ssh")
    key = (tiny.dir / "id_ed25519.pub").read_text().split()[1]
    out = daemon.ctl("exec", "web", "--", "grep -c 1048576 /proc/partitions; strings /dev/vdb").stdout
    assert out.startswith("1\n") and "#cloud-config" in out and key in out and '"name":"root"' in out
    assert "CIDATA" in out.upper() and '"local-hostname":"web"' in out
    daemon.ctl("kill", "web")
    assert image.read_bytes() == before


def test_another_user(daemon, tiny, image):
    daemon.ctl("create", "web", "--cloud-image", image, "--ssh-key", tiny.dir / "id_ed25519", "--user", "debian")
    config = json.loads((daemon.guests / "web/guest.json").read_text())
    assert config["ssh"] == {"user": "debian", "key": str(tiny.dir / "id_ed25519")}
    seed = (daemon.guests / "web/seed.img").read_bytes()
    assert b'"name":"debian"' in seed and b"NOPASSWD" in seed


def test_box(daemon, image, tmp_path):
    box = tmp_path / "test.box"
    (tmp_path / "metadata.json").write_text('{"provider": "libvirt"}')
    with tarfile.open(box, "w:gz") as tar:
        tar.add(tmp_path / "metadata.json", "./metadata.json")
        tar.add(image, "./box.img")
    daemon.ctl("create", "boxed", "--box", box)
    assert (daemon.guests / "boxed/boot.qcow2").read_bytes() == image.read_bytes()
    assert daemon.show("boxed")["state"] == "stopped"
    assert json.loads((daemon.guests / "boxed/guest.json").read_text())["ssh"]["user"] == "vagrant"


def test_what_makes_no_sense_leaves_nothing_behind(daemon, tiny, image, tmp_path):
    key = tiny.dir / "id_ed25519.pub"
    raw = tmp_path / "raw"
    raw.write_bytes(b"x" * 1000)
    empty = tmp_path / "empty.box"
    with tarfile.open(empty, "w:gz") as tar:
        tar.add(raw, "other.img")
    wrong = tmp_path / "wrong.box"
    with tarfile.open(wrong, "w:gz") as tar:
        tar.add(raw, "box.img")
    for args in (["--cloud-image", image], ["--cloud-image", raw, "--ssh-key", key],
                 ["--cloud-image", tmp_path / "none", "--ssh-key", key],
                 ["--cloud-image", image, "--ssh-key", tmp_path / "none"],
                 ["--cloud-image", image, "--ssh-key", raw],
                 ["--cloud-image", image, "--ssh-key", key, "--disk", "huge"],
                 ["--cloud-image", image, "--ssh-key", key, "--boot", image],
                 ["--cloud-image", image, "--ssh-key", key, "--box", empty],
                 ["--box", tmp_path / "none"], ["--box", raw], ["--box", empty], ["--box", wrong]):
        done = daemon.ctl("create", "g", *args, code=None)
        assert done.returncode in (1, 64, 65), args
        assert done.stderr, args
        assert not list(daemon.guests.iterdir()), args


def test_disk_that_is_too_small(daemon, tiny, image):
    """An overlay that ends before its image does would be a guest with half a file system."""
    args = ["create", "g", "--cloud-image", image, "--ssh-key", tiny.dir / "id_ed25519.pub", "--disk"]
    assert "less than the image's own 67108864" in daemon.ctl(*args, "63M", code=65).stderr
    assert not list(daemon.guests.iterdir())
    daemon.ctl(*args, "64M")


def test_box_that_reads_a_file_of_ours(daemon, image, tmp_path):
    """What comes from elsewhere names no file of this machine."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"x" * 65536)
    backed, outside = tmp_path / "backed", tmp_path / "outside"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", backed], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={secret}2", outside, "64K"], check=True)
    for path in (backed, outside):
        with tarfile.open(tmp_path / "a.box", "w:gz") as tar:
            tar.add(path, "box.img")
        assert "another file" in daemon.ctl("create", "g", "--box", tmp_path / "a.box", code=65).stderr
        assert not list(daemon.guests.iterdir())


def test_a_guest_that_is_there_is_left_alone(daemon, fake, tiny, image):
    daemon.folder("g", fake.config())
    before = sorted(p.name for p in (daemon.guests / "g").iterdir())
    daemon.ctl("create", "g", "--cloud-image", image, "--ssh-key", tiny.dir / "id_ed25519.pub", code=65)
    assert sorted(p.name for p in (daemon.guests / "g").iterdir()) == before
