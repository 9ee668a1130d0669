"""The packages of both clients, installed into empty environments as users do it."""

import functools
import glob
import os
import shutil
import subprocess
import sys
import tempfile

from .vm import OUT, ROOT

DEADLINE = 600
PACKAGES = os.path.join(ROOT, "_build/client")
TOOLS = os.path.join(OUT, "node_modules/.bin")
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")


def run(*command, cwd=None, env=None, check=True):
    """What a program prints."""
    done = subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout + ("" if check else done.stderr)


@functools.lru_cache(maxsize=None)
def packages():
    """Makes both packages: the tarball and the wheel."""
    run(os.path.join(ROOT, "clients/pack"))
    (tarball,) = glob.glob(os.path.join(PACKAGES, "*.tgz"))
    (wheel,) = glob.glob(os.path.join(PACKAGES, "*.whl"))
    return tarball, wheel


def folder(name):
    """An empty folder of that name, above which no package is installed."""
    path = os.path.join(ROOT, "_build/installed", name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


@functools.lru_cache(maxsize=None)
def python_environment(interpreter=sys.executable, source=None):
    """The Python of a new environment with the client, from the wheel unless told otherwise."""
    source = source or packages()[1]
    path = folder(f"python-{abs(hash((interpreter, source)))}")
    run(interpreter, "-m", "venv", path)
    python = os.path.join(path, "bin/python")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", source)
    return python


def clean_environment(**more):
    """No Python path of the caller: only installed packages are found."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "NODE_PATH"))} | more


def pythons():
    """The interpreters of this machine by their version, those that work."""
    found = {}
    for version in VERSIONS:
        candidates = [shutil.which(f"python{version}"), *glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python"))]
        for candidate in filter(None, candidates):
            says = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
            if run(candidate, "-c", says, check=False).strip() == version:
                found[version] = candidate
                break
    return found


@functools.lru_cache(maxsize=None)
def node_environment(source=None, *more):
    """A folder with the JavaScript client installed, from the tarball unless told otherwise, and with other packages."""
    path = folder(f"node-{abs(hash((source, more)))}")
    with open(os.path.join(path, "package.json"), "w", encoding="utf-8") as file:
        file.write('{"private": true}')
    run("npm", "install", "--no-audit", "--no-fund", "--silent", source or packages()[0], *more, cwd=path)
    return path


@functools.lru_cache(maxsize=None)
def repository():
    """This project as a git repository, as far as its clients are concerned: also what is not committed yet."""
    path = os.path.join(tempfile.mkdtemp(dir=folder("git")), "repository")
    names = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "package.json", "clients", cwd=ROOT).split()
    for name in names:
        if os.path.exists(os.path.join(ROOT, name)):
            os.makedirs(os.path.dirname(os.path.join(path, name)), exist_ok=True)
            shutil.copy2(os.path.join(ROOT, name), os.path.join(path, name))
    run("git", "init", "--quiet", "--initial-branch=main", path)
    run("git", "add", "--all", cwd=path)
    run("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "-m", "test", cwd=path)
    return path
