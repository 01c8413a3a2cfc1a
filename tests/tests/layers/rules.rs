//! The rules, each a function from one file to the lines that break it.

use super::code::{block_end, is_word, line_of, without_tests, without_words, words};

/// One file.
pub(crate) struct Source {
    /// Path in the repository, with forward slashes.
    pub(crate) path: String,
    text: String,
    /// Without comments, literals and tests.
    production: String,
    /// Without comments and literals.
    code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = without_words(text);
        // A file of tests is declared under `cfg(test)` where it is named.
        let file = path.rsplit('/').next().unwrap_or(path);
        let production = if file == "tests.rs" { String::new() } else { without_tests(&code) };
        Self { path: path.to_owned(), text: text.to_owned(), production, code }
    }

    /// Returns crate and module path: `("fs", ["driver", "errno"])`.
    fn module(&self) -> (&str, Vec<&str>) {
        let (krate, rest) = self.path.split_once("/src/").unwrap_or((&self.path, ""));
        let mut parts: Vec<&str> = rest.trim_end_matches(".rs").split('/').collect();
        if matches!(parts.last(), Some(&"mod" | &"lib" | &"main")) {
            parts.pop();
        }
        (krate, parts)
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            self.path == *place || self.path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'))
        })
    }

    fn production_words(&self, word: &str) -> Vec<usize> {
        words(&self.production, word).map(|at| line_of(&self.production, at)).collect()
    }
}

type Broken = Vec<(usize, String)>;

pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) check: fn(&Source) -> Broken,
}

/// Every rule.
pub(crate) const RULES: &[Rule] = &[
    Rule { name: "a module uses only those before it", check: module_order },
    Rule { name: "policy is pure", check: policy_purity },
    Rule { name: "a file says what it is for", check: head },
    Rule { name: "a file has at most 600 lines", check: file_length },
    Rule { name: "a function has at most 80 lines", check: function_length },
    Rule { name: "unsafe code lies in named files", check: unsafe_code },
    Rule { name: "platform conditions lie in named places", check: platform },
    Rule { name: "the environment is read in settings", check: environment },
    Rule { name: "printing happens in cli", check: printing },
    Rule { name: "nothing is left unfinished", check: unfinished },
    Rule { name: "programs are started in named places", check: programs },
    Rule { name: "FUSE appears in the driver", check: fuse },
    Rule { name: "threads start in worker", check: threads },
    Rule { name: "a lint is expected, not allowed", check: allowed_lints },
];

const FS_ORDER: &[&str] =
    &["worker", "node", "disk", "package", "store", "slot", "layer", "overlay", "volume", "driver"];
const MOUNTER_ORDER: &[&str] =
    &["settings", "host", "workenv", "plan", "launch", "extract", "pack", "session", "cleanup", "cli"];

const LONGEST_FILE: usize = 600;
const LONGEST_FUNCTION: usize = 80;

/// Functions that are one flat `match`, by file.
const FLAT_MATCHES: &[(&str, &str)] = &[];

const UNSAFE_FILES: &[&str] = &[
    "fs/src/disk/mapped.rs",
    "fs/src/slot/seek/inflate.rs",
    "mounter/src/host/health.rs",
    "mounter/src/host/probe/namespaces.rs",
    "mounter/src/host/process.rs",
    "mounter/src/host/standby.rs",
    "mounter/src/host/start.rs",
];

const PLATFORM_PLACES: &[&str] = &[
    "fs/src/disk",
    "fs/src/driver",
    "fs/src/lib.rs",
    "fs/src/worker.rs",
    "mounter/src/cli/mod.rs",
    "mounter/src/host",
    "mounter/src/lib.rs",
];

/// Where programs are started: the mount helper, and what slotfs is there to run.
const PROGRAM_PLACES: &[&str] =
    &["fs/src/driver/mount/helper.rs", "mounter/src/host", "mounter/src/launch", "mounter/src/session"];

/// Places that rules name and that exist already.
pub(crate) fn named_places() -> impl Iterator<Item = &'static str> {
    let flat = FLAT_MATCHES.iter().map(|&(path, _)| path);
    let unsafe_files = UNSAFE_FILES.iter().copied();
    let programs = PROGRAM_PLACES.iter().copied().filter(|place| place.ends_with(".rs"));
    unsafe_files.chain(flat).chain(programs)
}

fn module_order(source: &Source) -> Broken {
    let (krate, module) = source.module();
    let order = match krate {
        "fs" => FS_ORDER,
        "mounter" => MOUNTER_ORDER,
        _ => return Vec::new(),
    };
    let Some(&own) = module.first() else { return Vec::new() };
    let Some(own_place) = order.iter().position(|&name| name == own) else {
        return vec![(1, format!("`{own}` is not in the order {order:?}"))];
    };
    let mut broken = Vec::new();
    for (line, used) in used_modules(&source.production, module.len()) {
        let later = order.iter().position(|&name| name == used).is_some_and(|place| place > own_place);
        if later {
            broken.push((line, format!("`{own}` uses `{used}`, which comes after it")));
        }
    }
    broken
}

/// Returns the top-level modules that code at this depth names: after `crate::`, or after enough `super::`.
fn used_modules(code: &str, depth: usize) -> Vec<(usize, String)> {
    let up = "super::".repeat(depth.max(1));
    let mut used = Vec::new();
    for prefix in ["crate::", up.as_str()] {
        for at in words(code, prefix) {
            // `super::super::` is found inside a longer chain too; only its start counts.
            if prefix != "crate::" && code[..at].ends_with("super::") {
                continue;
            }
            let line = line_of(code, at);
            used.extend(first_names(&code[at + prefix.len()..]).into_iter().map(|name| (line, name)));
        }
    }
    used
}

/// Returns the first name of each path in a use tree: `a::b`, or `{a, b::{c, d}}`.
fn first_names(tree: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    if !tree.starts_with('{') {
        return vec![name(tree)];
    }
    let inside = &tree[1..block_end(tree, 0).saturating_sub(1).max(1)];
    let mut depth = 0_usize;
    let branches = inside.split(|letter: char| {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    });
    branches.map(name).filter(|name| !name.is_empty()).collect()
}

fn policy_purity(source: &Source) -> Broken {
    const IMPURE: &[&str] = &[
        "slotfs_fs",
        "slotfs",
        "std::fs",
        "std::env",
        "std::io",
        "std::net",
        "std::process",
        "std::thread",
        "Instant",
        "SystemTime",
        "File",
    ];
    if source.module().0 != "policy" {
        return Vec::new();
    }
    let named = |word: &'static str| {
        let lines = source.production_words(word);
        lines.into_iter().map(move |line| (line, format!("`{word}` has no place in a decision")))
    };
    IMPURE.iter().flat_map(|&word| named(word)).collect()
}

fn head(source: &Source) -> Broken {
    let first = source.text.lines().next().unwrap_or_default();
    let says = first.strip_prefix("//!").is_some_and(|rest| rest.trim().len() > 7);
    if says { Vec::new() } else { vec![(1, "its first line is not `//!` and a purpose".into())] }
}

fn file_length(source: &Source) -> Broken {
    // Comments count as they are read; tests do not.
    let tests = source.code.lines().zip(source.production.lines()).filter(|(all, kept)| all != kept).count();
    let length = if source.production.is_empty() { 0 } else { source.text.lines().count() - tests };
    if length <= LONGEST_FILE { Vec::new() } else { vec![(1, format!("{length} lines"))] }
}

fn function_length(source: &Source) -> Broken {
    let code = &source.production;
    let mut broken = Vec::new();
    for at in words(code, "fn") {
        let rest = &code[at..];
        let name: String = rest[2..]
            .trim_start()
            .chars()
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect();
        // A function type has no name, a declaration no body.
        let (Some(open), end) = (rest.find('{'), rest.find(';').unwrap_or(usize::MAX)) else { continue };
        if name.is_empty() || end < open {
            continue;
        }
        let first = line_of(code, at);
        let length = line_of(code, block_end(code, at + open) - 1) - first + 1;
        let is_flat = FLAT_MATCHES.contains(&(source.path.as_str(), name.as_str()));
        if length > LONGEST_FUNCTION && !is_flat {
            broken.push((first, format!("`{name}` has {length}")));
        }
    }
    broken
}

fn unsafe_code(source: &Source) -> Broken {
    if source.is_in(UNSAFE_FILES) {
        return Vec::new();
    }
    let lines = source.production_words("unsafe");
    lines.into_iter().map(|line| (line, "`unsafe`".into())).collect()
}

fn platform(source: &Source) -> Broken {
    if source.is_in(PLATFORM_PLACES) {
        return Vec::new();
    }
    let mut broken = Vec::new();
    for opening in ["cfg(", "cfg!(", "cfg_attr("] {
        for at in words(&source.production, opening) {
            let condition = parenthesis(&source.production[at + opening.len() - 1..]);
            let words = ["target_os", "target_family", "unix", "windows", "target_env", "target_vendor"];
            for word in words.into_iter().filter(|word| is_word(condition, word)) {
                broken.push((line_of(&source.production, at), format!("`{word}`")));
            }
        }
    }
    broken
}

/// Returns what the parenthesis that `code` starts with encloses.
fn parenthesis(code: &str) -> &str {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' if depth == 1 => return &code[..at],
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    code
}

fn environment(source: &Source) -> Broken {
    // Arguments and the program's own path are no settings, the names of system and processor are constants, and a
    // change of directory reads nothing.
    const HARMLESS: &[&str] =
        &["std::env::consts", "std::env::args_os", "std::env::current_exe", "std::env::set_current_dir"];
    if source.is_in(&["mounter/src/settings"]) {
        return Vec::new();
    }
    let harmless = |at: usize| HARMLESS.iter().any(|name| source.production[at..].starts_with(name));
    let imported = words(&source.production, "std::env").filter(|&at| !harmless(at));
    let called = ["env::var", "env::var_os", "env::vars", "env::vars_os"]
        .into_iter()
        .flat_map(|call| words(&source.production, call));
    imported.chain(called).map(|at| (line_of(&source.production, at), "`std::env`".into())).collect()
}

fn printing(source: &Source) -> Broken {
    if source.is_in(&["mounter/src/cli"]) {
        return Vec::new();
    }
    let macros = ["println!", "print!", "eprintln!", "eprint!", "dbg!"];
    let found = |word: &'static str| {
        source.production_words(word).into_iter().map(move |line| (line, format!("`{word}`")))
    };
    macros.into_iter().flat_map(found).collect()
}

fn unfinished(source: &Source) -> Broken {
    // Written so that this file does not hold the words itself.
    let words =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!"), concat!("unimplemented", "!")];
    let in_line = |(number, line): (usize, &str)| {
        words.iter().find(|word| is_word(line, word)).map(|word| (number + 1, format!("`{word}`")))
    };
    source.text.lines().enumerate().filter_map(in_line).collect()
}

fn programs(source: &Source) -> Broken {
    if source.is_in(PROGRAM_PLACES) {
        return Vec::new();
    }
    let lines = source.production_words("Command::new");
    lines.into_iter().map(|line| (line, "`Command::new`".into())).collect()
}

fn threads(source: &Source) -> Broken {
    if source.is_in(&["fs/src/worker.rs"]) {
        return Vec::new();
    }
    let found = |word: &'static str| {
        source.production_words(word).into_iter().map(move |line| (line, format!("`{word}`")))
    };
    ["thread::spawn", "thread::Builder", "scope.spawn"].into_iter().flat_map(found).collect()
}

fn fuse(source: &Source) -> Broken {
    if source.is_in(&["fs/src/driver"]) {
        return Vec::new();
    }
    let lines = source.production_words("fuser");
    lines.into_iter().map(|line| (line, "`fuser`".into())).collect()
}

fn allowed_lints(source: &Source) -> Broken {
    // There a lint may be right on one system and wrong on the next, because types differ.
    if source.is_in(PLATFORM_PLACES) {
        return Vec::new();
    }
    let found = |word: &'static str| {
        words(&source.production, word).map(move |at| (line_of(&source.production, at), format!("`{word}`")))
    };
    ["#[allow(", "#![allow("].into_iter().flat_map(found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the names of the rules that a file breaks.
    fn broken(path: &str, text: &str) -> Vec<&'static str> {
        let source = Source::new(path, &format!("//! A file for a test.\n{text}"));
        RULES.iter().filter(|rule| !(rule.check)(&source).is_empty()).map(|rule| rule.name).collect()
    }

    #[test]
    fn each_rule_can_fail() {
        let long_function = format!("fn long() {{\n{}}}\n", "    step();\n".repeat(80));
        let long_file = "const A: u8 = 1;\n".repeat(600);
        let table: &[(&str, &str, &str)] = &[
            ("fs/src/disk/a.rs", "use crate::volume::Volume;", "a module uses only those before it"),
            (
                "fs/src/disk/a.rs",
                "use crate::{node::Kind, slot::{a, b}};",
                "a module uses only those before it",
            ),
            ("fs/src/layer/mod.rs", "use super::volume::X;", "a module uses only those before it"),
            (
                "fs/src/layer/deep/a.rs",
                "use super::super::super::driver;",
                "a module uses only those before it",
            ),
            ("fs/src/stray.rs", "", "a module uses only those before it"),
            ("mounter/src/host/a.rs", "fn f() { crate::cli::main() }", "a module uses only those before it"),
            ("policy/src/a.rs", "use std::time::SystemTime;", "policy is pure"),
            ("policy/src/a.rs", "use slotfs_fs::node;", "policy is pure"),
            ("fs/src/disk/a.rs", &long_file, "a file has at most 600 lines"),
            ("fs/src/disk/a.rs", &long_function, "a function has at most 80 lines"),
            ("fs/src/volume/a.rs", "fn f() { unsafe { g() } }", "unsafe code lies in named files"),
            (
                "fs/src/volume/a.rs",
                "#[cfg(target_os = \"linux\")]\nfn f() {}",
                "platform conditions lie in named places",
            ),
            (
                "mounter/src/cli/a.rs",
                "fn f() -> bool { cfg!(all(unix, debug_assertions)) }",
                "platform conditions lie in named places",
            ),
            (
                "mounter/src/host/a.rs",
                "fn f() { std::env::var(\"X\"); }",
                "the environment is read in settings",
            ),
            (
                "mounter/src/cli/a.rs",
                "use std::env;\nfn f() { env::var_os(\"X\"); }",
                "the environment is read in settings",
            ),
            ("fs/src/volume/a.rs", "fn f() { println!(\"x\"); }", "printing happens in cli"),
            ("fs/src/volume/a.rs", concat!("// TO", "DO: later"), "nothing is left unfinished"),
            ("fs/src/volume/a.rs", concat!("fn f() { todo", "!() }"), "nothing is left unfinished"),
            (
                "mounter/src/cli/a.rs",
                "fn f() { Command::new(\"sh\"); }",
                "programs are started in named places",
            ),
            ("fs/src/slot/a.rs", "fn f() { std::thread::spawn(g); }", "threads start in worker"),
            ("mounter/src/host/a.rs", "use fuser::Session;", "FUSE appears in the driver"),
            ("fs/src/volume/a.rs", "#[allow(dead_code)]\nfn f() {}", "a lint is expected, not allowed"),
        ];
        for (path, text, rule) in table {
            assert!(broken(path, text).contains(rule), "{path} does not break `{rule}`:\n{text}");
        }
        let headless = Source::new("fs/src/disk/a.rs", "use std::fs;\n");
        assert_eq!(head(&headless).len(), 1);
    }

    #[test]
    fn what_is_allowed_breaks_nothing() {
        let short_enough = format!("fn fits() {{\n{}}}\n", "    step();\n".repeat(78));
        let table: &[(&str, &str)] = &[
            (
                "fs/src/driver/a.rs",
                "use crate::volume::Volume;\nuse fuser::Session;\n#[cfg(unix)]\nfn f() {}",
            ),
            ("fs/src/slot/deep/a.rs", "use super::super::chain;\nuse super::volume_of;"),
            (
                "fs/src/layer/a.rs",
                "use super::volume;\n// unsafe, println!, crate::driver\nconst A: &str = \"unsafe crate::driver\";",
            ),
            ("fs/src/disk/a.rs", &short_enough),
            ("fs/src/disk/mapped.rs", "fn f() { unsafe { g() } }"),
            (
                "fs/src/volume/a.rs",
                "#[cfg(test)]\nmod tests {\n#[cfg(unix)]\nfn f() { unsafe { println!(); std::env::var(\"X\"); } }\n}",
            ),
            ("mounter/src/settings/a.rs", "fn f() { std::env::var(\"X\"); }"),
            ("mounter/src/session/a.rs", "fn f() { Command::new(std::env::current_exe()); }"),
            ("mounter/src/cli/a.rs", "fn f() { println!(\"x\"); }"),
            ("mounter/src/main.rs", "fn main() { f(std::env::args_os()) }"),
        ];
        for (path, text) in table {
            assert_eq!(broken(path, text), [""; 0], "{path}:\n{text}");
        }
    }

    #[test]
    fn a_use_tree_names_its_first_parts() {
        assert_eq!(first_names("{a::{b, c}, d, e::f};"), ["a", "d", "e"]);
        assert_eq!(first_names("a::b;"), ["a"]);
    }
}
