"""The machine under test: a Debian root in an overlay, booted by systemd-nspawn with systemd as its process 1.

Start at `prepare` (the root that every machine starts from, made once) and `Box` (one machine: install, boot, ask, reboot, stop).
Everything here waits for a thing with a time limit and says what it waited for.
"""

import os
import pathlib
import re
import shutil
import subprocess
import time

PACKAGES = "systemd,systemd-sysv,dbus,libpam-systemd,ca-certificates,init-system-helpers,iproute2,curl,openssl,procps"
# Installed in each machine as it needs them, from archives that lie in the root.
SERVERS = ["polkitd", "nginx-light", "haproxy"]
# Of systemd, from the start of the container to the end of the boot; a loaded machine is slow.
BOOT = 120


class Failed(Exception):
    """A check did not hold, or something took too long."""


def run(*argv, limit=120, check=True, **options):
    """Runs a command outside; its output as text."""
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, errors="replace", timeout=limit, **options)
    if check and done.returncode != 0:
        raise Failed(f"`{' '.join(map(str, argv))}` ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-2000:]}")
    return done


def until(what, limit, ask, pause=0.1):
    """Waits until `ask` gives something true, which is returned."""
    end = time.monotonic() + limit
    while True:
        said = ask()
        if said:
            return said
        if time.monotonic() > end:
            raise Failed(f"{limit} s were not enough for: {what}")
        time.sleep(pause)


def prepare(folder):
    """The root that every machine starts from: made by debootstrap from the mirror that this machine uses, kept between runs."""
    base, done = folder / "base", folder / "base.done"
    if done.exists() and done.read_text() == PACKAGES + "".join(SERVERS):
        return base
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(base, ignore_errors=True)
    mirror, suite = sources()
    print(f"makes a Debian root ({suite}) in {folder}, once", flush=True)
    run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, base, mirror, limit=1800)
    (base / "etc/apt/apt.conf.d/90test").write_text('APT::Install-Recommends "false";\nAPT::Keep-Downloaded-Packages "true";\n')
    run("chroot", base, "apt-get", "install", "-qy", "--download-only", *SERVERS, limit=1800)
    (base / "etc/hostname").write_text("edge\n")
    done.write_text(PACKAGES + "".join(SERVERS))
    return base


def sources():
    """Mirror and suite of this machine's own apt."""
    lists = pathlib.Path("/etc/apt")
    deb822 = "\n".join(path.read_text() for path in sorted(lists.glob("sources.list.d/*.sources")))
    found = re.search(r"^URIs: *(\S+)", deb822, re.M), re.search(r"^Suites: *(\S+)", deb822, re.M)
    if all(found):
        return found[0][1], found[1][1]
    lines = "\n".join(path.read_text() for path in [lists / "sources.list", *lists.glob("sources.list.d/*.list")] if path.exists())
    line = re.search(r"^deb +(?:\[[^]]*\] +)?(\S+) +(\S+)", lines, re.M)
    if not line:
        raise Failed("apt has no sources")
    return line[1], line[2]


class Box:
    """One machine. Its changes lie in an overlay and are gone at the end."""

    def __init__(self, base, folder, name):
        self.name, self.folder, self.root = name, folder / name, folder / name / "root"
        self.console = folder / f"{name}.console.log"
        self.container = self.leader = None
        shutil.rmtree(self.folder, ignore_errors=True)
        for part in ["upper", "work", "root"]:
            (self.folder / part).mkdir(parents=True)
        layers = f"lowerdir={base},upperdir={self.folder}/upper,workdir={self.folder}/work"
        run("mount", "-t", "overlay", "-o", layers, f"certsyncd-{name}", self.root)

    # while it is off: by chroot, so that no link in it is followed on this machine

    def install(self, *packages):
        """Before the first boot, from the archives in the root."""
        run("chroot", self.root, "apt-get", "install", "-qy", "--no-download", *packages, env=QUIET, limit=600)

    # while it runs

    def boot(self):
        """Starts systemd in it and waits for the end of the boot. Seconds that it took."""
        started = time.monotonic()
        log = self.console.open("ab")
        argv = ["systemd-nspawn", "--quiet", "-D", self.root, "--boot", "--register=no", "--keep-unit", "-M", f"certsyncd-{self.name}"]
        self.container = subprocess.Popen([str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.leader = until("systemd in the container", BOOT, self._leader)
        until("the end of the boot", BOOT, lambda: self.ask("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"))
        return time.monotonic() - started

    def _leader(self):
        if self.container.poll() is not None:
            raise Failed(f"the container ended: see {self.console}")
        for task in pathlib.Path(f"/proc/{self.container.pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                if pathlib.Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    done = run("nsenter", "-t", child, "-a", "test", "-S", "/run/systemd/private", check=False)
                    return child if done.returncode == 0 else None
        return None

    def ask(self, *argv, limit=120, stdin=None):
        """Runs a command in it, whatever comes."""
        return run("nsenter", "-t", self.leader, "-a", "env", "-i", *ENVIRONMENT, *argv, limit=limit, check=False, input=stdin)

    def do(self, *argv, **options):
        """Runs a command in it that must go well; its standard output."""
        done = self.ask(*argv, **options)
        if done.returncode != 0:
            raise Failed(f"`{' '.join(map(str, argv))}` ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-2000:]}")
        return done.stdout.strip()

    def write(self, path, text, mode="0644", group="root"):
        """A file, written by a shell inside."""
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1" && chgrp "$3" "$1"'
        self.do("sh", "-c", script, "sh", path, mode, group, stdin=text)

    def show(self, unit, *properties):
        """Properties of a unit: one as text, several as a list."""
        lines = self.do("systemctl", "show", *[f"--property={name}" for name in properties], unit).splitlines()
        values = dict(line.split("=", 1) for line in lines)
        found = [values.get(name, "") for name in properties]
        return found[0] if len(found) == 1 else found

    def journal(self, *words):
        return self.ask("journalctl", "--no-pager", "--quiet", "--output=cat", "--unit=certsyncd", *words).stdout

    def reboot(self):
        """As `reboot` does; seconds until it is up again."""
        self.ask("systemctl", "reboot")
        self._gone()
        return self.boot()

    def stop(self):
        if self.container is not None:
            if self.container.poll() is None and self.leader:
                self.ask("systemctl", "poweroff")
            self._gone()
        run("umount", "--lazy", self.root, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _gone(self):
        try:
            self.container.wait(timeout=BOOT)
        except subprocess.TimeoutExpired:
            self.container.terminate()
            self.container.wait(timeout=30)
        self.leader = None


QUIET = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
ENVIRONMENT = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "DEBIAN_FRONTEND=noninteractive",
    "LC_ALL=C.UTF-8",
    "SYSTEMD_PAGER=",
]
