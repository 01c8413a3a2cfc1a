//! PostgreSQL with its data directory in a work environment: shared memory, locks, fsync, and servers killed in the middle
//! of the standard load.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use slotfs_tests::command::{skip, wait_for};
use slotfs_tests::ordinary::NOBODY;
use slotfs_tests::workplace::Workplace;

/// Where Debian keeps the server's programs: not on the path.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    if found.is_empty() {
        skip("PostgreSQL's server is not installed".into());
    }
    found.pop()
}

/// A server that refuses to run as root, on data in a work environment.
struct Database {
    place: Workplace,
    programs: PathBuf,
    server: Option<Child>,
}

impl Database {
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skip("only root can become the server's user".into());
            return None;
        }
        let (programs, place) = (programs()?, Workplace::new()?);
        let open =
            |path: PathBuf| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        open(place.beside(""));
        open(place.root().to_owned());
        for folder in [place.path("data"), place.beside("sockets")] {
            std::fs::create_dir(&folder).unwrap();
            chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let database = Self { place, programs, server: None };
        database.run(
            "initdb",
            &["--auth=trust", "--no-locale", "--encoding=UTF8", "--username=me", "--pgdata"],
            true,
        );
        Some(database)
    }

    /// Prepares one of the server's programs; `data` adds where the data are.
    fn program(&self, name: &str, arguments: &[&str], data: bool) -> Command {
        let mut command = Command::new("setpriv");
        let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
        command.args(user).args(["--clear-groups", "--"]).arg(self.programs.join(name)).args(arguments);
        command.args(data.then(|| self.place.path("data")));
        let sockets = self.place.beside("sockets");
        command.env("PGHOST", &sockets).env("PGUSER", "me").env("PGDATABASE", "postgres").env("LC_ALL", "C");
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn run(&self, name: &str, arguments: &[&str], data: bool) -> String {
        let output = self.program(name, arguments, data).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} {arguments:?}: {told}\n{}", self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    fn query(&self, query: &str) -> String {
        self.run("psql", &["-Atqc", query], false).trim_end().to_owned()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.place.beside("log")).unwrap_or_default()
    }

    fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.place.beside("log")).unwrap();
        let sockets = self.place.beside("sockets");
        let sockets = sockets.to_str().unwrap();
        let mut command = self.program(
            "postgres",
            &["-c", "listen_addresses=", "-c", "fsync=on", "-k", sockets, "-D"],
            true,
        );
        self.server = Some(command.stderr(log.try_clone().unwrap()).stdout(log).spawn().unwrap());
        wait_for("the server to answer", || {
            self.program("pg_isready", &["-q"], false).status().unwrap().success()
        });
    }

    /// Kills the server; what it started notices, and ends.
    fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
        let segment = self.place.path("data/postmaster.pid");
        assert!(segment.exists(), "a killed server leaves its mark");
    }

    fn stop(&mut self) {
        self.run("pg_ctl", &["stop", "--silent", "--mode=fast", "--pgdata"], true);
        assert!(self.server.take().unwrap().wait().unwrap().success(), "{}", self.log());
    }

    /// Inserts rows one by one while the standard load runs, kills the server after `enough`, and returns how many rows
    /// were told to be there for good.
    fn load_and_kill(&mut self, enough: usize) -> usize {
        let mut load = self.program("pgbench", &["--client=3", "--time=60", "--no-vacuum"], false);
        let load = load.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut psql = self.program("psql", &["-Atq", "--set=ON_ERROR_STOP=1"], false);
        let mut psql =
            psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut input = psql.stdin.take().unwrap();
        let writer = std::thread::spawn(move || {
            // Ends when the server is gone, and its client with it.
            while input.write_all(b"INSERT INTO told DEFAULT VALUES RETURNING number;\n").is_ok() {}
        });
        let mut lines = BufReader::new(psql.stdout.take().unwrap()).lines();
        let mut told = lines.by_ref().take(enough).map_while(Result::ok).count();
        assert_eq!(told, enough, "{}", self.log());
        self.kill();
        told += lines.map_while(Result::ok).count();
        for mut client in [psql, load] {
            client.wait().unwrap();
        }
        writer.join().unwrap();
        told
    }

    /// Looks at every page and at what the standard load keeps equal.
    fn check(&self, told: usize) {
        let rows: usize = self.query("SELECT count(*) FROM told").parse().unwrap();
        assert!(rows >= told, "{told} rows were told to be there, {rows} are");
        let sums = self.query(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) FROM pgbench_branches), \
             (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)",
        );
        let sums: Vec<&str> = sums.split('|').collect();
        assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
        self.run("pg_amcheck", &["--all", "--install-missing", "--heapallindexed"], false);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

#[test]
fn killed_servers_lose_nothing_that_was_committed() {
    let Some(mut database) = Database::new() else { return };
    database.start();
    database.run("pgbench", &["--initialize", "--quiet"], false);
    database.query("CREATE TABLE told (number serial PRIMARY KEY)");
    let mut told = 0;
    for round in 0..3 {
        told += database.load_and_kill(60);
        match round {
            // What is recovered from lies in a slot.
            0 => database.place.settle(),
            1 => database.place.remount(),
            _ => {}
        }
        database.start();
        database.check(told);
    }
    database.stop();
    database.place.remount_unchanged();
    database.run("pg_checksums", &["--enable", "--pgdata"], true);
    database.start();
    database.check(told);
    database.stop();
}
