//! SQLite with its write-ahead log: a map shared between processes, locks, and writers killed in the middle.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use slotfs_tests::workplace::{Workplace, installed};

/// One transaction; a line is printed once it is committed.
const TRANSACTION: &str = "BEGIN IMMEDIATE;
    INSERT INTO entries SELECT NULL, hex(randomblob(900)) FROM generate_series(1, 20);
    UPDATE counter SET value = value + 1;
    COMMIT;
    SELECT 'committed';
";

/// Commits until `enough` lines have come, kills the process, and returns how many commits it has told of.
fn write_and_kill(place: &Workplace, enough: usize) -> usize {
    let mut child = place
        .shell("exec sqlite3 -batch database")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let settings = "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=20; .timeout 20000\n";
        // Ends when the reader is gone.
        let _ = input.write_all(settings.replace("; .", ";\n.").as_bytes());
        while input.write_all(TRANSACTION.as_bytes()).is_ok() {}
    });
    let mut told = 0;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while told < enough {
        let line = lines.next().expect("it commits more than that").unwrap();
        told += usize::from(line == "committed");
    }
    child.kill().unwrap();
    told += lines.map_while(Result::ok).filter(|line| line == "committed").count();
    child.wait().unwrap();
    writer.join().unwrap();
    told
}

fn value(place: &Workplace, query: &str) -> String {
    place.run(&format!("sqlite3 -batch database \"{query}\"")).trim().to_owned()
}

fn check(place: &Workplace, told: usize) {
    assert_eq!(value(place, "PRAGMA integrity_check"), "ok");
    let counted: usize = value(place, "SELECT value FROM counter").parse().unwrap();
    let rows: usize = value(place, "SELECT count(*) FROM entries").parse().unwrap();
    assert!(counted >= told, "{told} commits were told, {counted} are there");
    assert_eq!(rows, counted * 20, "a transaction is there in full or not at all");
}

#[test]
fn killed_writers_lose_nothing_that_was_committed() {
    if !installed("sqlite3") {
        return;
    }
    let Some(mut place) = Workplace::new() else { return };
    let mode = place.run(
        "sqlite3 -batch database 'PRAGMA journal_mode=WAL; CREATE TABLE entries (id INTEGER PRIMARY KEY, content);
         CREATE TABLE counter (value); INSERT INTO counter VALUES (0);'",
    );
    assert_eq!(mode, "wal\n");
    let mut told = 0;
    for round in 0..6 {
        told += write_and_kill(&place, 5 + round * 3);
        match round {
            // The log of a killed writer lies in a slot, and is to be recovered from there.
            1 | 3 => place.settle(),
            2 => place.remount(),
            _ => {}
        }
        check(&place, told);
    }
    assert_eq!(value(&place, "PRAGMA wal_checkpoint(TRUNCATE)"), "0|0|0");
    place.remount_unchanged();
    check(&place, told);
}

#[test]
fn writers_in_several_processes_do_not_lose_each_others_rows() {
    if !installed("sqlite3") {
        return;
    }
    let Some(mut place) = Workplace::new() else { return };
    place.run("sqlite3 -batch database 'PRAGMA journal_mode=WAL; CREATE TABLE entries (writer, number);'");
    place.settle();
    place.run(
        r#"
        for writer in 1 2 3 4; do
            for number in $(seq 50); do
                echo "INSERT INTO entries VALUES ($writer, $number);"
            done | sqlite3 -batch -cmd '.timeout 30000' database &
            writers[writer]=$!
        done
        for writer in "${writers[@]}"; do wait "$writer"; done
        "#,
    );
    assert_eq!(
        value(&place, "SELECT count(*), count(DISTINCT writer || '-' || number) FROM entries"),
        "200|200"
    );
    assert_eq!(value(&place, "PRAGMA integrity_check"), "ok");
    place.remount_unchanged();
    assert_eq!(value(&place, "SELECT count(*) FROM entries"), "200");
}
