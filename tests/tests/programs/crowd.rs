//! Many processes at once in one mount: each checks what it does against what it knows, and together they share a log, a
//! counter and a file that is replaced again and again.
//!
//! A few seconds in the suite; `scripts/crowd` lets it go on for as long as is wanted.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use slotfs_tests::workplace::Workplace;

const PROCESSES: usize = 64;
/// How long the long version goes on, in seconds.
const SECONDS: &str = "SLOTFS_TEST_CROWD_SECONDS";
/// What tells a process of the crowd where it works, which one it is, and for how many seconds.
const FOLDER: &str = "SLOTFS_CROWD_FOLDER";
const NUMBER: &str = "SLOTFS_CROWD_NUMBER";
const LIMIT: &str = "SLOTFS_CROWD_LIMIT";
/// Length of a line in the shared log, and of the shared file.
const LINE: usize = 32;
const WHOLE: usize = 20_000;
/// Files and directories of one process.
const NAMES: u64 = 24;

/// A small generator of numbers, the same ones for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // Xorshift, by Marsaglia.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What a process knows of its own directory: the content of each file, and which names lead to one.
#[derive(Default)]
struct Known {
    contents: BTreeMap<u64, Vec<u8>>,
    names: BTreeMap<PathBuf, u64>,
    next: u64,
}

impl Known {
    fn add(&mut self, name: PathBuf, content: Vec<u8>) {
        self.next += 1;
        self.contents.insert(self.next, content);
        self.names.insert(name, self.next);
    }

    /// Lets go of content that no name leads to any more.
    fn forget_nameless(&mut self) {
        let names = &self.names;
        self.contents.retain(|id, _| names.values().any(|named| named == id));
    }
}

struct Worker {
    own: PathBuf,
    known: Known,
    dice: Dice,
}

impl Worker {
    fn name(&mut self) -> PathBuf {
        let (folder, file) = (self.dice.roll(4), self.dice.roll(NAMES));
        self.own.join(format!("folder{folder}/file{file}"))
    }

    fn bytes(&mut self) -> Vec<u8> {
        let (length, byte) = (self.dice.roll(30_000), self.dice.roll(256) as u8);
        vec![byte; usize::try_from(length).unwrap()]
    }

    /// Does one thing, and checks what can be seen of it.
    fn step(&mut self) {
        let name = self.name();
        match (self.dice.roll(10), self.known.names.get(&name).copied()) {
            (0..=2, _) => self.replace(name),
            (3, Some(id)) => {
                let more = self.bytes();
                OpenOptions::new().append(true).open(&name).unwrap().write_all(&more).unwrap();
                self.known.contents.get_mut(&id).unwrap().extend(more);
            }
            (4, Some(id)) => self.write_inside(&name, id),
            (5, Some(_)) => {
                fs::remove_file(&name).unwrap();
                self.known.names.remove(&name);
            }
            (6, Some(id)) => {
                let to = self.name();
                fs::rename(&name, &to).unwrap();
                // Two names of one file stay where they are.
                if self.known.names.get(&to) != Some(&id) {
                    self.known.names.remove(&name);
                    self.known.names.insert(to, id);
                }
            }
            (7, Some(id)) => {
                let to = self.name();
                if let Entry::Vacant(vacant) = self.known.names.entry(to) {
                    fs::hard_link(&name, vacant.key()).unwrap();
                    vacant.insert(id);
                }
            }
            (8, Some(id)) => {
                let length = self.dice.roll(40_000);
                OpenOptions::new().write(true).open(&name).unwrap().set_len(length).unwrap();
                self.known.contents.get_mut(&id).unwrap().resize(usize::try_from(length).unwrap(), 0);
            }
            (_, Some(id)) => {
                assert!(fs::read(&name).unwrap() == self.known.contents[&id], "{}", name.display())
            }
            (_, None) => assert!(!name.exists(), "{} is there", name.display()),
        }
    }

    /// Writes a new file beside the old one and puts it in its place.
    fn replace(&mut self, name: PathBuf) {
        let content = self.bytes();
        let beside = self.own.join("beside");
        let file = File::create(&beside).unwrap();
        file.write_all_at(&content, 0).unwrap();
        if self.dice.roll(8) == 0 {
            file.sync_all().unwrap();
        }
        fs::rename(&beside, &name).unwrap();
        self.known.add(name, content);
    }

    fn write_inside(&mut self, name: &Path, id: u64) {
        let (at, piece) = (usize::try_from(self.dice.roll(20_000)).unwrap(), self.bytes());
        let file = OpenOptions::new().read(true).write(true).open(name).unwrap();
        file.write_all_at(&piece, at as u64).unwrap();
        let content = self.known.contents.get_mut(&id).unwrap();
        if !piece.is_empty() {
            content.resize(content.len().max(at + piece.len()), 0);
            content[at..at + piece.len()].copy_from_slice(&piece);
        }
        let mut seen = vec![0; content.len()];
        file.read_exact_at(&mut seen, 0).unwrap();
        assert!(seen == *content, "{}", name.display());
    }

    /// Compares everything that is there with what is known.
    fn check(&self) {
        let mut found = 0;
        for folder in 0..4 {
            for entry in fs::read_dir(self.own.join(format!("folder{folder}"))).unwrap() {
                let path = entry.unwrap().path();
                let id = self.known.names.get(&path).unwrap_or_else(|| panic!("{} is new", path.display()));
                assert!(fs::read(&path).unwrap() == self.known.contents[id], "{}", path.display());
                let links = self.known.names.values().filter(|other| *other == id).count();
                assert_eq!(path.metadata().unwrap().nlink(), links as u64, "{}", path.display());
                found += 1;
            }
        }
        assert_eq!(found, self.known.names.len());
    }
}

/// What all processes share: each turn is one line in the log and one more in the counter.
fn share(root: &Path, number: usize, turn: u64) {
    let mut line = format!("{number:02} {turn:<28}");
    line.push('\n');
    assert_eq!(line.len(), LINE);
    OpenOptions::new().append(true).open(root.join("log")).unwrap().write_all(line.as_bytes()).unwrap();

    let mut counter = OpenOptions::new().read(true).write(true).open(root.join("counter")).unwrap();
    counter.lock().unwrap();
    let mut text = String::new();
    counter.read_to_string(&mut text).unwrap();
    let next = text.trim().parse::<u64>().unwrap() + 1;
    counter.rewind().unwrap();
    counter.write_all(format!("{next:20}").as_bytes()).unwrap();
    counter.unlock().unwrap();

    let whole = fs::read(root.join("whole")).unwrap();
    assert_eq!(whole.len(), WHOLE);
    assert!(whole.iter().all(|byte| *byte == whole[0]), "half of one and half of another");
    let beside = root.join(format!("whole-{number}"));
    fs::write(&beside, vec![number as u8; WHOLE]).unwrap();
    fs::rename(&beside, root.join("whole")).unwrap();
}

fn first_content(number: usize, file: u64) -> Vec<u8> {
    vec![number as u8; usize::try_from(file * 1000).unwrap()]
}

/// Not a test but one process of the crowd.
#[test]
fn one_of_the_crowd() {
    let Some(root) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let number: usize = std::env::var(NUMBER).unwrap().parse().unwrap();
    let limit = Duration::from_secs(std::env::var(LIMIT).unwrap().parse().unwrap());
    let own = root.join(format!("own{number}"));
    let mut worker = Worker { own, known: Known::default(), dice: Dice(number as u64 * 7919 + 17) };
    for file in 0..NAMES {
        worker
            .known
            .add(worker.own.join(format!("folder{}/file{file}", file % 4)), first_content(number, file));
    }
    worker.check();
    let end = Instant::now() + limit;
    let mut turn = 0;
    while Instant::now() < end {
        (0..20).for_each(|_| worker.step());
        worker.known.forget_nameless();
        share(&root, number, turn);
        turn += 1;
        if turn % 16 == 0 {
            worker.check();
        }
    }
    worker.check();
    // Where the parent looks for it, outside of the mount.
    fs::write(root.with_file_name("turns").join(number.to_string()), turn.to_string()).unwrap();
}

/// Lets the crowd work for so long, half of it on files that lie in a slot, and checks what is left.
fn crowd(limit: Duration) {
    let Some(mut place) = Workplace::new() else { return };
    for number in 0..PROCESSES {
        for file in 0..NAMES {
            let folder = place.path(format!("own{number}/folder{}", file % 4));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(format!("file{file}")), first_content(number, file)).unwrap();
        }
    }
    fs::write(place.path("log"), "").unwrap();
    fs::write(place.path("counter"), format!("{:20}", 0)).unwrap();
    fs::write(place.path("whole"), vec![0; WHOLE]).unwrap();
    place.settle();
    let turns = place.beside("turns");
    fs::create_dir(&turns).unwrap();

    let children: Vec<_> = (0..PROCESSES)
        .map(|number| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "crowd::one_of_the_crowd", "--nocapture"])
                .env(FOLDER, place.root())
                .env(NUMBER, number.to_string())
                .env(LIMIT, limit.as_secs().to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for (number, child) in children.into_iter().enumerate() {
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "process {number}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let expected: Vec<u64> = (0..PROCESSES)
        .map(|number| fs::read_to_string(turns.join(number.to_string())).unwrap().parse().unwrap())
        .collect();
    let check = |place: &Workplace| {
        let log = fs::read_to_string(place.path("log")).unwrap();
        let mut next = vec![0_u64; PROCESSES];
        for line in log.as_bytes().chunks(LINE) {
            let line = std::str::from_utf8(line).unwrap();
            let (number, turn) = line.split_once(' ').unwrap();
            let number: usize = number.parse().unwrap();
            assert_eq!(turn.trim().parse(), Ok(next[number]), "a line is lost or torn: {line:?}");
            next[number] += 1;
        }
        assert_eq!(next, expected);
        let counter = fs::read_to_string(place.path("counter")).unwrap();
        assert_eq!(counter.trim().parse(), Ok(expected.iter().sum::<u64>()), "an update is lost");
    };
    check(&place);
    assert!(expected.iter().all(|turns| *turns > 0), "{expected:?}");
    place.remount_unchanged();
    check(&place);
}

#[test]
fn sixty_four_processes_lose_nothing_and_see_what_they_wrote() {
    let seconds = std::env::var(SECONDS).ok().map_or(3, |text| text.parse().unwrap());
    crowd(Duration::from_secs(seconds));
}
