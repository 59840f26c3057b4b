//! A PostgreSQL server for the tests: one for all of them, with a database for each.

use std::{
    env,
    fs::Permissions,
    io::{BufRead, BufReader, Write, stderr},
    net::TcpListener,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fastauth::store::{PostgresOptions, PostgresStore};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// Set where the tests have to find a server, as `.ci/run` does: without one they fail.
const REQUIRED: &str = "FASTAUTH_TESTS_NEED_POSTGRES";
/// Where Debian and others put what is not meant for everyone's path.
const PLACES: [&str; 2] = ["/usr/lib/postgresql", "/usr/local/pgsql"];
/// Whom the server runs as if the tests run as root, as which it refuses to.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// A server with its data in a temporary folder. It stops when it is dropped, and when the process of the tests ends.
pub(crate) struct Server {
    directory: TempDir,
    programs: PathBuf,
    user: Option<User>,
    pub(crate) port: u16,
    settings: &'static str,
    running: Option<Running>,
}

#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

struct Running {
    /// Stops the server once its input ends, which it does with this process.
    keeper: Child,
    pid: u32,
}

/// The server that the tests share; `None` if there is none on this machine.
fn shared() -> Option<&'static Server> {
    static SERVER: LazyLock<Option<Server>> = LazyLock::new(|| {
        let server = Server::start("");
        if server.is_none() {
            // Not by `eprintln`, of which cargo shows nothing.
            let _ = writeln!(
                stderr(),
                "\n*** SKIPPED: the tests of PostgreSQL, for initdb is not in /usr/lib/postgresql/*/bin ***\n"
            );
        }
        server
    });
    SERVER.as_ref()
}

/// The URL of a new database on the server that the tests share.
pub(crate) fn database() -> Option<String> {
    shared().map(Server::database)
}

/// A store in a new database.
pub(crate) async fn store() -> Option<PostgresStore> {
    Some(connect(&database()?).await)
}

pub(crate) async fn connect(url: &str) -> PostgresStore {
    PostgresStore::connect(url, PostgresOptions::default()).await.unwrap()
}

/// A connection to look into a database with.
pub(crate) async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Server {
    /// Starts a server of its own, with these settings.
    pub(crate) fn start(settings: &'static str) -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(env::var_os(REQUIRED).is_none(), "{REQUIRED} is set, and PostgreSQL is not installed");
            return None;
        };
        let directory = tempfile::Builder::new().prefix("fastauth-pg-").tempdir_in("/tmp").unwrap();
        let user = user();
        if let Some(User { uid, gid }) = user {
            chown(directory.path(), Some(uid), Some(gid)).unwrap();
        }
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { directory, programs, user, port, settings, running: None };
        let initdb = server
            .program("initdb")
            .args(["--auth=trust", "--username=fastauth", "--encoding=UTF8", "--locale=C"])
            .arg("-D")
            .arg(server.data())
            .output();
        let initdb = initdb.unwrap();
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        server.launch();
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A program of the server's, run as the user that it is for.
    fn program(&self, name: &str) -> Command {
        let path = self.programs.join(name);
        self.as_user(&path)
    }

    pub(crate) fn as_user(&self, program: &Path) -> Command {
        let mut command = match self.user {
            Some(User { uid, gid }) => {
                let mut command = Command::new("setpriv");
                command
                    .args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()])
                    .arg(program);
                command
            }
            None => Command::new(program),
        };
        command.current_dir(self.directory.path());
        command
    }

    /// Starts the server, for the first time or once more, and waits until it answers.
    pub(crate) fn launch(&mut self) {
        // Stops the server at a word, and removes all of it at the end of the process.
        const KEEPER: &str = r#""$@" >>log 2>&1 & echo $!; read -r word; kill -QUIT $! 2>/dev/null; wait $!; [ "$word" ] || rm -rf "$PWD""#;
        let data = self.data();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            self.stop();
            let mut keeper = self.as_user(Path::new("/bin/sh"));
            keeper.args(["-c", KEEPER, "sh"]).arg(self.programs.join("postgres")).arg("-D").arg(&data);
            keeper.arg("-k").arg(self.directory.path()).args(["-p", &self.port.to_string(), "-h", "127.0.0.1"]);
            keeper.args(["-c", "max_connections=400", "-c", "fsync=on", "-c", "shared_buffers=64MB"]);
            for setting in self.settings.split_whitespace() {
                keeper.args(["-c", setting]);
            }
            let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
            self.running = Some(Running { keeper, pid: line.trim().parse().unwrap() });
            while Instant::now() < deadline && self.is_running() {
                if self.psql("postgres", "SELECT 1").is_ok() {
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
            // The processes of one that was killed may still be there.
            assert!(Instant::now() < deadline, "the server does not start: see {}", self.directory.path().display());
        }
    }

    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.keeper.stdin.take().map(|mut input| input.write_all(b"stop\n"));
            let _ = running.keeper.wait();
        }
    }

    fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().pid
    }

    fn is_running(&self) -> bool {
        Path::new(&format!("/proc/{}/stat", self.pid())).exists()
            && !std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default().contains(") Z ")
    }

    /// Sends a signal to the server and all of its processes.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let children = Command::new("pgrep").args(["-P", &pid]).output().unwrap().stdout;
        let children = String::from_utf8(children).unwrap();
        let status =
            Command::new("kill").args(["-s", signal, &pid]).args(children.split_whitespace()).status().unwrap();
        // A child may have ended in between.
        assert!(status.success() || !children.is_empty());
    }

    fn psql(&self, database: &str, sql: &str) -> Result<(), String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["-qXAt", "-U", "fastauth", "-d", database, "-c", sql])
            .arg("-h")
            .arg(self.directory.path())
            .args(["-p", &self.port.to_string()])
            .output()
            .unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// The folder of the server's socket.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file that the server alone can read, into the folder of its data.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.data().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        if let Some(User { uid, gid }) = self.user {
            chown(&path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// Makes a database, and returns its URL.
    pub(crate) fn database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}")).unwrap();
        self.url(&name)
    }

    /// The URL of a database, through the socket.
    fn url(&self, database: &str) -> String {
        let directory = self.directory.path().display().to_string().replace('/', "%2F");
        format!("postgres://fastauth@{directory}:{}/{database}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn programs() -> Option<PathBuf> {
    let mut found: Vec<_> = PLACES
        .iter()
        .filter_map(|place| std::fs::read_dir(place).ok())
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path().join("bin")))
        .filter(|path| path.join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}

/// The user for the server, if the tests run as root.
fn user() -> Option<User> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse::<u32>().ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    USERS.iter().find_map(|name| Some(User { uid: id(&["-u", name])?, gid: id(&["-g", name])? }))
}
