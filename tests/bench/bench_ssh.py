"""'exec GUEST -- true' beside the least libssh program and ssh; push and pull beside OpenSSH's scp, to a guest whose
server is dropbear (as it is: through tar; with OpenSSH's sftp-server: by SFTP) and to an OpenSSH server on loopback, where
the guest is not what limits. Rounds are interleaved; medians over them, and ratios of figures taken together."""

import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

from harness import BUILD, Daemon, FakeQemu, Tiny, build_guest
from sshd import Sshd

QUICK = bool(os.environ.get("QUICK"))
ROUNDS = 3 if QUICK else 11
MIB = 1 << 20


def seconds(*command, env=None, code=0):
    began = time.perf_counter()
    done = subprocess.run([str(c) for c in command], env=env, capture_output=True)
    took = time.perf_counter() - began
    assert done.returncode == code, (command, done.stderr)
    return took


def compare(title, rounds, unit, scale, **ways):
    """Runs the ways in turn; the first is ours. Prints medians and how the others relate to ours."""
    times = {name: [] for name in ways}
    for i in range(rounds + 1):
        for name, way in ways.items():
            took = way()
            if i:  # the first round warms up
                times[name].append(took)
    ours = next(iter(ways))
    for name in ways:
        median = statistics.median(times[name])
        ratio = statistics.median(a / b for a, b in zip(times[name], times[ours]))
        print(f"{title:34} {name:12} {scale(median):9.1f} {unit:5} time {ratio:5.2f} x ours")


def ms(s):
    return s * 1000


def files(title, d, guest, base, config, there):
    env = d.client_env()
    big = base / "big"
    size = 16 * MIB
    big.write_bytes(os.urandom(size))
    ctl = BUILD / "cijqemuctl"

    def rate(s):
        return size / MIB / s
    n = max(3, ROUNDS // 2)
    compare(f"{title}: push 16 MiB", n, "MiB/s", rate,
            ours=lambda: seconds(ctl, "-q", "push", guest, big, f"{there}/b1", env=env),
            scp=lambda: seconds("scp", "-q", "-F", config, big, f"{guest}:{there}/b2"))
    compare(f"{title}: pull 16 MiB", n, "MiB/s", rate,
            ours=lambda: seconds(ctl, "-q", "pull", guest, f"{there}/b1", base / "p1", env=env),
            scp=lambda: seconds("scp", "-q", "-F", config, f"{guest}:{there}/b2", base / "p2"))


def tar_files(d, guest, base, config):
    """Without an SFTP server scp has nothing to talk to: 'ssh cat' is what there is."""
    env = d.client_env()
    big = base / "big"
    size = 16 * MIB
    big.write_bytes(os.urandom(size))
    ctl = BUILD / "cijqemuctl"

    def rate(s):
        return size / MIB / s
    n = max(3, ROUNDS // 2)
    compare("guest, tar: push 16 MiB", n, "MiB/s", rate,
            ours=lambda: seconds(ctl, "-q", "push", guest, big, "/root/b1", env=env),
            ssh_cat=lambda: seconds("sh", "-c", f"ssh -F {config} {guest} 'cat > /root/b2' < {big}"))
    compare("guest, tar: pull 16 MiB", n, "MiB/s", rate,
            ours=lambda: seconds(ctl, "-q", "pull", guest, "/root/b1", base / "p1", env=env),
            ssh_cat=lambda: seconds("sh", "-c", f"ssh -F {config} {guest} 'cat /root/b2' > {base}/p2"))


def many_files(title, d, guest, base, config, there, count):
    src = base / f"src-{title}"
    src.mkdir()
    for i in range(count):
        (src / f"f{i}").write_bytes(b"x" * 100)
    env = d.client_env()
    ctl = BUILD / "cijqemuctl"
    n = 3
    compare(f"{title}: push {count} small files", n, "ms", ms,
            ours=lambda: seconds(ctl, "-q", "push", guest, "-r", src, f"{there}/m1", env=env),
            scp=lambda: seconds("scp", "-q", "-r", "-F", config, src, f"{guest}:{there}/m2"))
    compare(f"{title}: pull {count} small files", n, "ms", ms,
            ours=lambda: seconds(ctl, "-q", "pull", guest, "-r", f"{there}/m1", base / "q1", env=env),
            scp=lambda: seconds("scp", "-q", "-r", "-F", config, f"{guest}:{there}/m2", base / "q2"))


def ssh_config(d, guest, base):
    path = base / f"config-{guest}"
    path.write_text(d.ctl("ssh-config", guest).stdout)
    return path


def main():
    build_guest()
    base = pathlib.Path(tempfile.mkdtemp(prefix="cijqemu-bench-"))
    d = Daemon(base / "d")
    server = Sshd(base / "sshd")
    try:
        server.start()
        d.start()
        tiny = Tiny()
        d.folder("tiny", {**tiny.config, "memory": "512M"})
        d.ctl("start", "tiny", "--wait=ssh")
        d.ctl("exec", "tiny", "--", "true")
        env = d.client_env()
        port, key = d.show("tiny")["ssh"]["port"], tiny.dir / "id_ed25519"
        config = ssh_config(d, "tiny", base)
        compare("exec -- true", ROUNDS * 3, "ms", ms,
                ours=lambda: seconds(BUILD / "cijqemuctl", "exec", "tiny", "--", "true", env=env),
                libssh=lambda: seconds(BUILD / "tests/bench/ssh_true", port, key),
                ssh=lambda: seconds("ssh", "-F", config, "tiny", "true"))
        tar_files(d, "tiny", base, config)
        d.ctl("push", "tiny", "/usr/lib/openssh/sftp-server", "/usr/lib/sftp-server")
        files("guest, SFTP", d, "tiny", base, config, "/root")
        many_files("guest", d, "tiny", base, config, "/root", 200)
        fake = FakeQemu(base / "qemu")
        d.folder("loop", fake.config("elsewhere", ssh={"port": server.port, "key": str(server.key)}))
        d.ctl("start", "loop", "--wait=ssh")
        d.ctl("exec", "loop", "--", "true")
        config = ssh_config(d, "loop", base)
        (base / "there").mkdir()
        files("OpenSSH on loopback", d, "loop", base, config, base / "there")
        many_files("loopback", d, "loop", base, config, base / "there", 1000 if QUICK else 3000)
    finally:
        d.close()
        server.stop()
        shutil.rmtree(base, ignore_errors=True)


main()
