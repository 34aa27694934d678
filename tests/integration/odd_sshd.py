"""An SSH server that does as it is told: what OpenSSH and dropbear do once in a thousand times, or
only with a system's help."""

import logging
import os
import socket
import subprocess
import threading

import paramiko

from harness import HANG

# It tells of each hang-up that it was asked for.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


class Session(paramiko.ServerInterface):
    """One connection."""

    def __init__(self, server, transport):
        self.server, self.transport = server, transport
        self.has_key = False

    def get_allowed_auths(self, username):
        if self.server.key_and_answers and not self.has_key:
            return "publickey"
        return "keyboard-interactive" if self.server.answers else "publickey"

    def check_auth_publickey(self, username, key):
        self.server.logins += 1
        self.has_key = True
        if self.server.key_and_answers:
            return paramiko.AUTH_PARTIALLY_SUCCESSFUL
        return paramiko.AUTH_FAILED if self.server.answers else paramiko.AUTH_SUCCESSFUL

    def check_auth_interactive(self, username, submethods):
        if not self.server.answers or (self.server.key_and_answers and not self.has_key):
            return paramiko.AUTH_FAILED
        self.asked = list(self.server.answers)
        return paramiko.InteractiveQuery("", "", *[(question, False) for question in self.asked])

    def check_auth_interactive_response(self, responses):
        self.server.logins += 1
        right = [self.server.answers[question] for question in self.asked]
        return paramiko.AUTH_SUCCESSFUL if responses == right else paramiko.AUTH_FAILED

    def check_channel_request(self, kind, chanid):
        if self.server.hang_ups > 0:
            self.server.hang_ups -= 1
            self.transport.sock.shutdown(socket.SHUT_RDWR)
            return paramiko.OPEN_FAILED_CONNECT_FAILED
        if self.server.refusals > 0:
            self.server.refusals -= 1
            return paramiko.OPEN_FAILED_RESOURCE_SHORTAGE
        if kind != "session":
            threading.Thread(target=self.lead_on, daemon=True).start()
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel, command):
        if self.server.silent:
            return True
        threading.Thread(target=self.run, args=(channel, command), daemon=True).start()
        return True

    def check_channel_subsystem_request(self, channel, name):
        if self.server.sftp and name == "sftp":
            paramiko.SFTPServer(channel, name, self, self.server.sftp).start()
            return True
        return self.server.silent

    def run(self, channel, command):
        env = {**os.environ, "PATH": f"{self.server.path}:{os.environ['PATH']}"} if self.server.path else None
        done = subprocess.run(command, shell=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=HANG, env=env)
        try:
            channel.sendall(done.stdout)
            channel.sendall_stderr(done.stderr)
            channel.send_exit_status(done.returncode)
            channel.close()
        except OSError:
            pass  # whoever asked is gone

    def lead_on(self):
        """A channel to a socket: it can only be the daemon's."""
        channel = self.transport.accept(HANG)
        to = socket.socket(socket.AF_UNIX)
        to.connect(str(self.server.socket))

        def copy(take, give, end):
            try:
                while data := take(65536):
                    give(data)
                end()
            except OSError:
                pass
        threading.Thread(target=copy, args=(channel.recv, to.sendall, lambda: to.shutdown(socket.SHUT_WR)),
                         daemon=True).start()
        copy(to.recv, channel.sendall, channel.close)


class OddSshd:
    def __init__(self, socket_path=None):
        self.socket = socket_path  # where channels that are no session's lead to
        self.refusals = self.hang_ups = self.logins = 0
        self.shy = 0  # connections closed without a word
        self.silent = False  # says yes to each command, and runs none
        self.answers = None  # question -> answer, instead of a key
        self.key_and_answers = False  # both are needed
        self.sftp = None  # a paramiko.SFTPServerInterface
        self.path = None  # where commands are looked for first
        self.key = paramiko.ECDSAKey.generate()
        self.transports = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            if self.shy > 0:
                self.shy -= 1
                sock.close()
                continue
            transport = paramiko.Transport(sock)
            # libssh asks only OpenSSH for channels to sockets.
            transport.local_version = "SSH-2.0-OpenSSH_9.2"
            transport.add_server_key(self.key)
            self.transports.append(transport)
            try:
                transport.start_server(event=threading.Event(), server=Session(self, transport))
            except paramiko.SSHException:
                transport.close()

    def hang_up(self):
        for transport in self.transports:
            transport.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.hang_up()
        self.thread.join(HANG)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
