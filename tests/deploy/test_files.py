"""The other files below deploy/, each as its own tool reads it, and the steps of the pages that have a command."""

import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from support import APPLICATION, MASTER, PROGRAM, ROOT, Connection, Deployment, changed, free_port

UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))


def output_of(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout + done.stderr


def uncommented(unit):
    """The unit with the settings that a comment offers."""
    return re.sub(r"(?m)^#(?=[A-Z]\w+=)", "", unit)


@unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not to be had here")
class Units(unittest.TestCase):
    def test_units_are_valid(self):
        with tempfile.TemporaryDirectory() as place:
            for unit in (ROOT / "deploy/systemd").iterdir():
                # The programs and users of the page are not on this machine.
                text = re.sub(r"/usr/local/bin/\w+", "/bin/true", unit.read_text())
                (pathlib.Path(place) / unit.name).write_text(re.sub(r"(?m)^User=.*", "User=daemon", uncommented(text)))
            code, text = output_of("systemd-analyze", "verify", "--man=no", *map(str, pathlib.Path(place).iterdir()))
        self.assertEqual((code, text), (0, ""))

    def test_units_are_hardened(self):
        self.assertEqual(len(UNITS), 3)
        for unit in UNITS:
            # Tenths: at most 1.5 of 10.
            code, text = output_of("systemd-analyze", "security", "--no-pager", "--offline=yes", "--threshold=15", str(unit))
            self.assertEqual(code, 0, text)

    def test_secrets_are_credentials_only(self):
        for unit in UNITS:
            text = uncommented(unit.read_text())
            for name in re.findall(r"=%d/([\w-]+)$", text, re.M):
                self.assertRegex(text, rf"(?m)^LoadCredential={name}:/etc/")
            self.assertNotRegex(text, r"(?m)^Environment=\S*(TOKEN|KEY|KEYS)=")


@unittest.skipUnless(shutil.which("strace") and shutil.which("systemd-analyze"), "strace is not to be had here")
class SystemCalls(Deployment):
    """The filter of the unit leaves what the application does: systemd itself cannot run in a test."""

    def test_filter_leaves_what_the_application_calls(self):
        self.configure(database_api_url="sqlite:" + str(self.place / "tokens.db"))
        port, trace = free_port(), self.place / "trace"
        # With -D the process that is started, and ended, is the application: a strace that is ended leaves it running.
        process = self.start(["strace", "-D", "-f", "-qq", "-o", str(trace), APPLICATION], LISTEN=f"127.0.0.1:{port}")
        self.comes_up(port)
        for method, path, headers, body in [("POST", "/auth/token/new", [("MASTER-TOKEN", MASTER)], b"client_id=alice"),
                                            ("GET", "/auth/healthz?deep", [], b"")]:
            connection = Connection(port)
            connection.send(method, path, headers, body)
            self.assertEqual(connection.reply().status, 200)
            connection.close()
        self.end(process)
        called = {match[1] for match in re.finditer(r"(?m)^\d+ +(\w+)\(.*(?<!\?)$", trace.read_text())}
        refused = {match[1] for match in re.finditer(r"(?m)^\d+ +(\w+)\(.* = -1 (?:EPERM|ENOSYS)", trace.read_text())}
        self.assertGreater(len(called), 30)
        # SQLite gives its log to the owner of the database, as root only.
        self.assertEqual(called - refused - self.allowed(), {"fchown"} & called)

    @classmethod
    def allowed(cls):
        text = (ROOT / "deploy/systemd/shop.service").read_text()
        calls = set()
        for line in re.findall(r"(?m)^SystemCallFilter=(.*)$", text):
            named = cls.members(line.lstrip("~").split())
            calls = calls - named if line.startswith("~") else calls | named
        return calls

    @classmethod
    def members(cls, names):
        calls = set()
        for name in names:
            if name.startswith("@"):
                code, text = output_of("systemd-analyze", "syscall-filter", "--no-pager", name)
                assert code == 0, text
                lines = [line.strip() for line in text.splitlines()[1:]]
                calls |= cls.members([line for line in lines if line and not line.startswith("#")])
            else:
                calls.add(name)
        return calls


class Kubernetes(unittest.TestCase):
    @unittest.skipUnless(shutil.which("kubectl"), "kubectl is not to be had here")
    def test_manifests_are_valid(self):
        try:
            import kubernetes_validate
            import yaml
        except ImportError:
            self.skipTest("kubernetes-validate is not to be had here")
        code, text = output_of("kubectl", "kustomize", str(ROOT / "deploy/kubernetes"))
        self.assertEqual(code, 0, text)
        documents = list(yaml.safe_load_all(text))
        kinds = sorted(document["kind"] for document in documents)
        self.assertEqual(kinds, ["Deployment", "Namespace", "NetworkPolicy", "PodDisruptionBudget", "Service", "Service",
                                 "StatefulSet"])
        for document in documents:
            kubernetes_validate.validate(document, "1.30", strict=True)
        for document in documents:
            if document["kind"] in ["Deployment", "StatefulSet"]:
                self.check_pods(document["spec"]["template"]["spec"])

    def check_pods(self, pod):
        self.assertTrue(pod["securityContext"]["runAsNonRoot"])
        self.assertFalse(pod["automountServiceAccountToken"])
        for container in pod["containers"]:
            context = container["securityContext"]
            self.assertTrue(context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"])
            self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
            self.assertTrue(container["livenessProbe"] and container["readinessProbe"])
            for variable in container["env"]:
                self.assertFalse(re.search("(TOKEN|KEY)$", variable["name"]), "secrets are files")


class Containers(unittest.TestCase):
    def test_image_is_built(self):
        code, _ = output_of("docker", "info") if shutil.which("docker") else (1, "")
        if code:
            self.skipTest("no container engine runs here: the Containerfile is not built")
        with tempfile.TemporaryDirectory() as place:
            for target in ["shop", "store"]:
                self.build(pathlib.Path(place), target)

    def build(self, place, target):
        # As the page says: the clone within the application.
        if not (place / "Cargo.toml").exists():
            output_of("git", "clone", "--quiet", str(ROOT), str(place / "fastauth"))
            (place / "src").mkdir()
            (place / "src/main.rs").write_text('fn main() { let _ = fastauth::FastAuthLayer::from_config(); }\n')
            (place / "Cargo.toml").write_text('[package]\nname = "shop"\nversion = "0.1.0"\nedition = "2024"\n[workspace]\n'
                                              'exclude = ["fastauth"]\n[dependencies]\nfastauth = { path = "fastauth" }\n')
            (place / "fastauth.config.json").write_text('{"access-token-paths": ["/access"]}')
            subprocess.run(["cargo", "generate-lockfile"], cwd=place, check=True)
        code, text = output_of("docker", "build", "--target", target, "-t", f"fastauth-test-{target}", "-f",
                               str(ROOT / "deploy/container/Containerfile"), str(place))
        self.assertEqual(code, 0, text)


class Backups(Deployment):
    """The page on backups: the command of the unit, a restore, and the clients afterwards."""

    def test_backup_of_the_unit_is_restored(self):
        database, state = self.place / "fastauth/tokens.db", self.place
        database.parent.mkdir()
        (state / "fastauth-backups").mkdir()
        self.configure(database_api_url=f"sqlite:{database}")
        port = free_port()
        application = self.start_application(port)
        token = self.log_in(port, "alice")
        text = (ROOT / "deploy/systemd/fastauth-backup.service").read_text()
        first, second = [line.partition("=")[2] for line in text.splitlines() if line.startswith("ExecStart=")]
        # As systemd expands it.
        expanded = {"%S": str(state), "%%": "%", "$$": "$"}
        commands = [re.sub(r"%S|%%|\$\$", lambda match: expanded[match[0]], line) for line in (first, second)]
        commands[0] = changed(commands[0], {"/usr/local/bin/fastauth": PROGRAM})
        for command in commands:
            code, text = output_of("sh", "-c", command)
            self.assertEqual(code, 0, text)
        backup, = (state / "fastauth-backups").iterdir()
        self.assertRegex(backup.name, r"^tokens-\d{8}T\d{6}Z\.db$")

        restore = [PROGRAM, "store", "restore", "--database", f"sqlite:{database}", str(backup)]
        code, text = output_of(*restore)
        self.assertEqual(code, 1, f"restored below a running process: {text}")
        self.end(application)
        code, text = output_of(*restore)
        self.assertEqual(code, 0, text)
        self.start_application(port)
        self.assertEqual(self.status(port, token), 401, "the sessions of a backup are revoked")
        self.assertEqual(self.status(port, self.log_in(port, "alice")), 200)

    def log_in(self, port, client_id):
        connection = Connection(port)
        connection.send("POST", "/auth/token/new", [("MASTER-TOKEN", MASTER)], f"client_id={client_id}".encode())
        reply = connection.reply()
        connection.close()
        self.assertEqual(reply.status, 200, reply.body)
        return reply.json()["data"]["access_token"]

    def status(self, port, token):
        connection = Connection(port)
        connection.send("GET", "/access/hello", [("ACCESS-TOKEN", token)])
        reply = connection.reply()
        connection.close()
        return reply.status


class OnTheMachine(Backups):
    """The commands of the page on systemd, each in the shell, for the application that the unit runs."""

    test_backup_of_the_unit_is_restored = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.configure()
        credentials = cls.place / "etc/credentials"
        credentials.mkdir(parents=True)
        for name, file in [("fastauth.config.json", "etc"), ("master", "etc/credentials/master-token"),
                           ("key", "etc/credentials/cryptography-key")]:
            shutil.copy(cls.place / name, cls.place / file)
        (cls.place / "lib/shop").mkdir(parents=True)

    def run_commands(self, commands, unit):
        """Runs commands of the page, on the files of this test."""
        (self.place / "shop.service").write_text(unit.replace("/etc/shop", f"{self.place}/etc"))
        shell = f'sudo() {{ "$@"; }}; systemctl() {{ cat {self.place}/shop.service; }}; set -e -o pipefail\n'
        commands = commands.replace("/etc/shop", f"{self.place}/etc").replace("/var/lib", f"{self.place}/lib")
        done = subprocess.run(["bash", "-c", shell + commands], capture_output=True, text=True, timeout=60, cwd=self.place,
                              env={"PATH": f"{PROGRAM.parent}:/usr/bin:/bin", "HOME": str(self.place)})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_commands_of_the_page_act_on_the_service(self):
        page = (ROOT / "docs/guide/deploy-systemd.md").read_text()
        section = page[page.index("# Revoking on the machine"):page.index("# A token store for several machines")]
        revoke, plain, rotate = re.findall(r"```console\n(.*?)```", section, re.S)
        function = revoke[:revoke.index("}\n") + 2]
        unit = (ROOT / "deploy/systemd/shop.service").read_text()
        port = free_port()
        service = self.start_service(port)
        for commands in [revoke, plain]:
            token = self.log_in(port, "alice")
            self.assertIn("evoked 1 session", self.run_commands(commands, unit))
            self.assertEqual(self.status(port, token), 401)

        token = self.log_in(port, "alice")
        self.run_commands(function + rotate, unit)
        self.end(service)
        self.assertFalse((self.place / "new-keys").exists())
        listed = self.run_commands(f"{function}shop_auth keys list --json", uncommented(unit))
        self.assertEqual([key["role"] for key in json.loads(listed)["keys"]], ["signs-from", "signs"])
        names = ["previous-cryptography-keys", "cryptography-key-signs-from"]
        credentials = {f"{name.replace('-', '_').upper()}_FILE": str(self.place / "etc/credentials" / name) for name in names}
        self.start_service(port, **credentials)
        self.assertEqual(self.status(port, token), 200)

    def start_service(self, port, **variables):
        process = self.start([APPLICATION], **{
            "LISTEN": f"127.0.0.1:{port}", "CRYPTOGRAPHY_KEY_FILE": str(self.place / "etc/credentials/cryptography-key"),
            "FASTAUTH_DATABASE_API_URL": f"sqlite:{self.place}/lib/shop/tokens.db", **variables})
        self.comes_up(port)
        return process


class ServedStore(Deployment):
    """The store as its unit sets it up: its variables are known, and the probes of the manifest answer."""

    def test_unit_and_probes_fit_the_program(self):
        self.configure()
        port = free_port()
        token = self.write("store-token", "a-bearer-token-of-the-store\n")
        unit = (ROOT / "deploy/systemd/fastauth-store.service").read_text()
        variables = dict(re.findall(r"(?m)^Environment=(FASTAUTH_STORE_\w+)=(.*)$", unit))
        self.assertEqual(len(variables), 4)
        variables = {name: changed(value, {old: new}) for (name, value), (old, new) in zip(variables.items(), [
            ("%d/store-token", token), ("%S/fastauth", self.place), ("127.0.0.1:6789", f"127.0.0.1:{port}"), ("json", "json")])}
        command = re.search(r"(?m)^ExecStart=/usr/local/bin/fastauth (.*)$", unit)[1].split()
        self.start([PROGRAM, *command], **variables)
        manifest = (ROOT / "deploy/kubernetes/store.yaml").read_text()
        probes = re.findall(r"httpGet: \{ path: (\S+),", manifest)
        self.assertEqual(len(probes), 2)
        for path in probes:
            self.comes_up(port, path=path)
        for name in re.findall(r"FASTAUTH_STORE_\w+", manifest):
            self.assertIn(name, variables)
        for headers, is_refused in [([], True), ([("Authorization", "Bearer a-bearer-token-of-the-store")], False)]:
            connection = Connection(port)
            connection.send("GET", "/v2/", headers)
            self.assertEqual(connection.reply().status == 401, is_refused)
            connection.close()
        self.assertTrue((self.place / "tokens.db").exists())


@unittest.skipUnless(shutil.which("nginx"), "nginx is not to be had here")
class RollingRestart(Backups):
    """The page on updates: two nodes behind nginx get a new key, one after the other, and no request fails."""

    test_backup_of_the_unit_is_restored = None

    def test_no_request_fails_while_the_key_is_rotated(self):
        self.write(".env", "CRYPTOGRAPHY_KEY=" + "k" * 40 + "\n")
        self.configure(store_format="plain")
        proxy, ports = free_port(), [free_port(), free_port()]
        # The key is in `.env`, where `keys rotate` writes it.
        (self.place / "key").unlink()
        nodes = [self.start_node(port) for port in ports]
        servers = " ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)
        temporary = "".join(f"{name}_temp_path {self.place}/{name};"
                            for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
        self.write("nginx.conf", f"pid {self.place}/pid; events {{}} http {{ access_log off; {temporary}"
                   f"upstream shop {{ {servers} }} server {{ listen 127.0.0.1:{proxy};"
                   "location / { proxy_pass http://shop; } } }")
        self.start(["nginx", "-e", self.place / "error.log", "-c", self.place / "nginx.conf", "-g", "daemon off;"])
        self.comes_up(proxy)
        tokens = [self.log_in(proxy, "before")]
        code, text = output_of(PROGRAM, "keys", "rotate", "--signs-in", "1h", "--config",
                               str(self.place / "fastauth.config.json"))
        self.assertEqual(code, 0, text)
        for index, port in enumerate(ports):
            self.end(nodes[index])
            self.check(proxy, tokens)
            nodes[index] = self.start_node(port)
            tokens.append(self.log_in(proxy, f"during-{index}"))
            self.check(proxy, tokens)
        # Every node knows the new key before it signs.
        config = str(self.place / "fastauth.config.json")
        listed = subprocess.run([PROGRAM, "keys", "list", "--json", "--config", config], check=True, stdout=subprocess.PIPE)
        self.assertEqual([key["role"] for key in json.loads(listed.stdout)["keys"]], ["signs-from", "signs"])

    def check(self, proxy, tokens):
        for token in tokens:
            for _ in range(4):
                self.assertEqual(self.status(proxy, token), 200)

    def start_node(self, port):
        environment = {"LISTEN": f"127.0.0.1:{port}", "CRYPTOGRAPHY_KEY_FILE": ""}
        process = self.start(["env", "-u", "CRYPTOGRAPHY_KEY_FILE", str(APPLICATION)], **environment)
        self.comes_up(port)
        return process


if __name__ == "__main__":
    unittest.main()
