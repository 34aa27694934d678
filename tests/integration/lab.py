"""A lab server: one daemon of root's, guests of several users, each with a real uid."""

import os
import pathlib
import shutil
import socket
import subprocess
import tempfile

import pytest

from harness import BUILD, HANG, Client, Daemon, FakeQemu

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="this machine cannot: only root has guests of other users")

GROUP, ADMIN_GROUP, TEAM = 30009, 30008, 30007


class User:
    """Somebody with an account that no file knows: ids are all that the kernel and we look at."""

    def __init__(self, name, uid, *groups):
        self.name, self.uid, self.gid, self.groups = name, uid, uid, list(groups)

    @property
    def as_process(self):
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups}

    def __repr__(self):
        return self.name


OWNER = User("owner", 30001, GROUP)
SHARED = User("shared", 30002, GROUP)
TEAMMATE = User("teammate", 30003, GROUP, TEAM)
VIEWER = User("viewer", 30004)  # may not open the read-write socket
STRANGER = User("stranger", 30005, GROUP)
ADMIN = User("admin", 30006, GROUP, ADMIN_GROUP)


def connect_as(user, path):
    """A socket whose peer is @user: connected by a child of that user, then handed over."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups(user.groups)
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(path))
            socket.send_fds(theirs, [b"x"], [sock.fileno()])
            code = 0
        except OSError as e:
            theirs.send(b"e%d" % e.errno)
        finally:
            os._exit(code)
    theirs.close()
    data, fds, _, _ = socket.recv_fds(ours, 16, 1)
    os.waitpid(pid, 0)
    ours.close()
    if not fds:
        raise OSError(int(data[1:] or 0), os.strerror(int(data[1:] or 0)))
    sock = socket.socket(fileno=fds[0])
    sock.settimeout(HANG)
    return sock


class LabClient(Client):
    def __init__(self, user, path):
        super().__init__(connect_as(user, path))


class Lab(Daemon):
    """A daemon whose folders everybody can reach, as on a machine."""

    def __init__(self, options=(), **kw):
        base = pathlib.Path(tempfile.mkdtemp(prefix="cij-lab-"))
        base.chmod(0o755)
        try:
            super().__init__(base, options=["--group", str(GROUP), "--admin-group", str(ADMIN_GROUP), *options], **kw)
            self.guests.chmod(0o755)
            self.read_only = self.run / "cijqemud-ro.sock"
            self.fake = FakeQemu(base / "qemu")
            os.chmod(self.fake.home / "bin", 0o755)
        except BaseException:
            shutil.rmtree(base)
            raise

    def folder_of(self, user, name, config=None):
        path = self.folder(name, config)
        for p in [path, *path.rglob("*")]:
            os.lchown(p, user.uid, user.gid)
        path.chmod(0o755)
        return path

    def connect_as(self, user, read_only=False):
        return LabClient(user, self.read_only if read_only else self.socket)

    def ctl_as(self, user, *args, code=0, **kw):
        env = {**self.client_env(kw.pop("env", None)), "HOME": "/nonexistent",
               "XDG_RUNTIME_DIR": "", "PATH": "/usr/bin:/bin"}
        done = subprocess.run([BUILD / "cijqemuctl", *map(str, args)], capture_output=True, text=True, cwd="/",
                              stdin=subprocess.DEVNULL, env=env, timeout=HANG, **user.as_process, **kw)
        if code is not None:
            assert done.returncode == code, (user, args, done)
        return done

    def close(self):
        try:
            super().close()
        finally:
            shutil.rmtree(self.base, ignore_errors=True)


@pytest.fixture
def lab():
    d = Lab()
    try:
        yield d.start()
    finally:
        d.close()
