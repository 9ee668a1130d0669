"""Packaged libraries: what `native/build.sh` takes, what it refuses, and what it says. Cargo is not on the path here."""

import contextlib
import functools
import hashlib
import http.server
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import unittest

from support.clients import PythonClient
from support.copies import copy_project
from support.vm import ROOT, environment
from test_feed import Lines

DEADLINE = 120
BUILDERS = {"cargo", "rustc", "rustup"}
INSTALLED = "priv/crates/dev_websocket_nif/dev_websocket_nif.so"


@functools.lru_cache(maxsize=None)
def path_without_cargo():
    """A folder with all commands of this machine but those of Rust."""
    folder = tempfile.mkdtemp()
    for place in os.environ["PATH"].split(os.pathsep):
        with contextlib.suppress(OSError):
            for name in set(os.listdir(place)) - BUILDERS:
                with contextlib.suppress(FileExistsError):
                    os.symlink(os.path.join(place, name), os.path.join(folder, name))
    return folder


class Library(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):  # pylint: disable=arguments-differ
        pass


class Install(unittest.IsolatedAsyncioTestCase):
    """A clone of the project without anything that was built."""

    @classmethod
    def setUpClass(cls):
        cls.source = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.source)
        copy_project(cls.source)
        cls.packages = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.packages)
        made = subprocess.run(
            ["native/package-nif.sh", cls.packages], cwd=ROOT, capture_output=True, text=True, check=True, timeout=DEADLINE
        )
        cls.package = os.path.basename(made.stdout.strip())

    def setUp(self):
        self.clone = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.clone)
        shutil.copytree(self.source, self.clone, dirs_exist_ok=True)

    def build(self, *command, **variables):
        env = {name: value for name, value in environment().items() if not name.startswith("DEV_WEBSOCKET_NIF")}
        env |= {"PATH": path_without_cargo()} | variables
        return subprocess.run(
            command or ["sh", "native/build.sh"], cwd=self.clone, env=env, capture_output=True, text=True, timeout=DEADLINE, check=False
        )

    def put(self, folder="priv", content=None, checksum=True):
        """Puts the packaged library into a folder of the clone, whole or with other content under the same name."""
        folder = os.path.join(self.clone, folder)
        os.makedirs(folder, exist_ok=True)
        shutil.copy(os.path.join(self.packages, self.package), folder)
        if checksum:
            shutil.copy(os.path.join(self.packages, self.package + ".sha256"), folder)
        if content is not None:
            with open(os.path.join(folder, self.package), "wb") as file:
                file.write(content)
        return folder

    def content(self):
        with open(os.path.join(self.packages, self.package), "rb") as file:
            return file.read()

    def assert_installed(self, built):
        self.assertEqual((built.returncode, built.stdout, built.stderr), (0, "", ""))
        with open(os.path.join(self.clone, INSTALLED), "rb") as file:
            self.assertEqual(file.read(), self.content())

    def assert_refused(self, built, *lines):
        """Each fault is one line, and the last one says what an operator can do without cargo."""
        self.assertEqual((built.returncode, built.stdout), (1, ""))
        said = built.stderr.splitlines()
        self.assertEqual(len(said), len(lines) + 1, built.stderr)
        for line, part in zip(said, [*lines, f"no library and no cargo: put {self.package} and its .sha256 into priv/"]):
            self.assertTrue(line.startswith("dev_websocket: ") and part in line, (line, part))
        self.assertFalse(os.path.exists(os.path.join(self.clone, INSTALLED)))

    async def test_a_clone_with_a_library_runs_the_feed_without_cargo(self):
        self.put()
        process = subprocess.Popen(
            ["make", "run"], cwd=self.clone, env=environment() | {"PATH": path_without_cargo()},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait, DEADLINE)
        self.addCleanup(os.killpg, process.pid, signal.SIGTERM)
        uri = Lines(process).until(r"(ws://\S+/ws)\b").group(1)
        client = await PythonClient.connect(f"{uri}?topic=*")
        self.addAsyncCleanup(client.close)
        self.assertEqual((await client.frame())["type"], "connection_established")
        self.assertIn("topic", await client.message())

    def test_a_library_in_priv_is_taken(self):
        self.put()
        self.assert_installed(self.build())
        self.assertEqual(self.build("sh", "native/build.sh", "--needs-cargo").returncode, 1)

    def test_a_library_is_taken_from_the_folder_that_the_operator_names(self):
        folder = self.put("elsewhere")
        self.assert_installed(self.build(DEV_WEBSOCKET_NIF=folder))

    def test_a_library_is_taken_from_the_url_that_the_operator_names(self):
        for pinned in (False, True):
            with self.subTest(pinned=pinned):
                folder = self.put(f"served-{pinned}", checksum=not pinned)
                server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Library, directory=folder))
                self.addCleanup(server.server_close)
                threading.Thread(target=server.serve_forever, daemon=True).start()
                self.addCleanup(server.shutdown)
                url = f"http://127.0.0.1:{server.server_port}"
                variables = {"DEV_WEBSOCKET_NIF_SHA256": hashlib.sha256(self.content()).hexdigest()} if pinned else {}
                self.assert_installed(self.build(DEV_WEBSOCKET_NIF=url, **variables))
        built = self.build(DEV_WEBSOCKET_NIF=url + "/nowhere")
        self.assertEqual(built.returncode, 1)
        self.assertIn(f"cannot fetch {url}/nowhere/{self.package} with its .sha256", built.stderr)

    def test_a_library_without_its_checksum_or_with_another_is_refused(self):
        whole = self.content()
        self.put(checksum=False)
        self.assert_refused(self.build(), "has no checksum")
        self.put(checksum=True)
        self.assert_refused(self.build(DEV_WEBSOCKET_NIF_SHA256="0" * 64), f"does not have its checksum {'0' * 64}")
        for content in (whole[: len(whole) // 2], whole[:-1], b"", whole[:-1] + b"x"):
            self.put(content=content)
            self.assert_refused(self.build(), "does not have its checksum")

    def test_a_library_for_another_machine_version_or_source_is_named(self):
        folder = self.put()
        version, machine, source = self.package.removesuffix(".so").split("-")[1], "riscv64-linux-gnu", "0" * 12
        for other in (self.package.replace(version, "9.9.9"), f"dev_websocket_nif-{version}-{machine}-{source}.so"):
            with self.subTest(other):
                os.rename(os.path.join(folder, self.package), os.path.join(folder, other))
                self.assert_refused(self.build(), f"{other} is for another version, machine or source; {self.package} would fit")
                os.rename(os.path.join(folder, other), os.path.join(folder, self.package))

    def musl(self, **commands):
        """A path on which ldd is that of musl, as far as a script can tell, with other stand-ins for commands."""
        folder = tempfile.mkdtemp(dir=self.clone)
        says = 'if [ "$1" = --version ]; then printf "musl libc (any)\\nVersion 1.2.5\\n" >&2; exit 1; fi\n' + commands.pop("ldd", "")
        for name, script in {"ldd": says, **commands}.items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(f"#!/bin/sh\n{script}")
            os.chmod(os.path.join(folder, name), 0o755)
        return folder + os.pathsep + path_without_cargo()

    def for_musl(self):
        """The name of the package if this machine had musl."""
        if "-linux-gnu-" not in self.package:
            self.skipTest("this machine has another C library than glibc")
        return self.package.replace("-linux-gnu-", "-linux-musl-")

    def test_a_library_for_another_c_library_is_never_taken(self):
        folder = self.put()
        machine = self.package.split("-")[2]
        for_musl = self.for_musl()
        for path, there, wanted in ((self.musl(), self.package, for_musl), (path_without_cargo(), for_musl, self.package)):
            with self.subTest(there=there, wanted=wanted):
                for name in os.listdir(folder):
                    end = ".sha256" if name.endswith(".sha256") else ""
                    os.rename(os.path.join(folder, name), os.path.join(folder, there + end))
                built = self.build(PATH=path)
                self.assertEqual((built.returncode, built.stdout), (1, ""))
                said = built.stderr.splitlines()
                self.assertEqual(len(said), 2, built.stderr)
                self.assertIn(f"{there} is for another version, machine or source; {wanted} would fit", said[0])
                self.assertIn(f"put {wanted} and its .sha256 into priv/", said[1])
                self.assertIn(f"-{machine}-linux-", wanted)
                # Not even by its checksum alone.
                pinned = self.build(PATH=path, DEV_WEBSOCKET_NIF_SHA256=hashlib.sha256(self.content()).hexdigest())
                self.assertEqual(pinned.returncode, 1)
                self.assertFalse(os.path.exists(os.path.join(self.clone, INSTALLED)))

    def test_musl_takes_its_own_library_if_the_system_can_load_it(self):
        folder = self.put()
        for_musl = self.for_musl()
        for end in ("", ".sha256"):
            os.rename(os.path.join(folder, self.package + end), os.path.join(folder, for_musl + end))
        misses = 'echo "Error loading shared library libgcc_s.so.1: No such file or directory (needed by $1)" >&2; exit 127\n'
        built = self.build(PATH=self.musl(ldd=misses))
        self.assertEqual(built.returncode, 1)
        self.assertIn(f"{for_musl} needs a newer C library, or others than this machine has", built.stderr)
        # Functions of the VM are missing in any library of a device.
        self.assert_installed(self.build(PATH=self.musl(ldd='echo "Error relocating $1: enif_send: symbol not found" >&2; exit 127\n')))

    def test_a_build_on_musl_makes_a_library_that_a_vm_can_load(self):
        built = self.build(PATH=self.musl(cargo='echo "flags: $RUSTFLAGS" >&2\nexit 101\n'), RUSTFLAGS="-C debuginfo=0")
        self.assertEqual(built.returncode, 101)
        self.assertEqual(built.stderr.splitlines()[1:], ["flags: -C debuginfo=0 -C target-feature=-crt-static"])

    def test_a_changed_source_needs_another_library(self):
        self.put()
        with open(os.path.join(self.clone, "native/dev_websocket_core/src/lib.rs"), "a", encoding="utf-8") as file:
            file.write("// changed\n")
        built = self.build()
        self.assertEqual(built.returncode, 1)
        self.assertIn(f"{self.package} is for another version, machine or source", built.stderr)

    def test_without_a_library_and_cargo_the_name_of_the_library_is_said(self):
        self.assert_refused(self.build())
        made = self.build("make", "build")
        self.assertNotEqual(made.returncode, 0)
        self.assertIn("missing: Rust 1.91 or newer", made.stderr)

    def test_a_tree_that_cannot_be_written_is_named(self):
        self.put()
        with open(os.path.join(self.clone, "priv/crates"), "w", encoding="utf-8"):
            pass
        built = self.build()
        self.assertEqual((built.returncode, built.stdout, len(built.stderr.splitlines())), (1, "", 1))
        self.assertIn(f"cannot write {self.clone}/{INSTALLED}", built.stderr)

    def test_a_build_says_first_that_it_takes_minutes(self):
        folder = tempfile.mkdtemp(dir=self.clone)
        with open(os.path.join(folder, "cargo"), "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\necho started >&2\nexit 101\n")
        os.chmod(os.path.join(folder, "cargo"), 0o755)
        built = self.build(PATH=folder + os.pathsep + path_without_cargo())
        self.assertEqual(built.returncode, 101)
        first, second = built.stderr.splitlines()
        self.assertIn("cargo builds the native library; the first build takes some minutes", first)
        self.assertEqual(second, "started")


if __name__ == "__main__":
    unittest.main()
