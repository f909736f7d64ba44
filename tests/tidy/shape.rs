//! The shape of the code: lengths, names, doors.

use crate::rust;
use crate::tree::File;

/// Lines of a file, at most.
const FILE: usize = 600;
/// Lines of a file on [`WAY`], at most.
const ON_THE_WAY: usize = 400;
/// The way of a bucket from a person's command to the programs that run, and back to what is shown of them: whoever has read these
/// in this order knows how Sheaf works.
const WAY: [&str; 21] = [
    "crates/console/src/command/bucket.rs",
    "crates/wire/src/bucket.rs",
    "crates/control/src/bucket.rs",
    "crates/consensus/src/replica.rs",
    "crates/consensus/src/machine.rs",
    "crates/engine/src/apply/bucket.rs",
    "crates/store/src/write.rs",
    "crates/control/src/watch.rs",
    "crates/agent/src/link.rs",
    "crates/engine/src/node.rs",
    "crates/engine/src/gates.rs",
    "crates/control/src/session.rs",
    "crates/control/src/conductor.rs",
    "crates/engine/src/steward.rs",
    "crates/engine/src/placement.rs",
    "crates/engine/src/apply/binding.rs",
    "crates/engine/src/reconcile.rs",
    "crates/agent/src/executor.rs",
    "crates/agent/src/keeper.rs",
    "crates/engine/src/node/report.rs",
    "crates/engine/src/apply/phase.rs",
];
/// Lines of a function, from `fn` to its closing bracket: fewer than this.
const FUNCTION: usize = 70;

/// Endings of a type's name that say nothing.
const EMPTY_ENDINGS: [&str; 8] = ["Manager", "Helper", "Util", "Info", "Data", "Impl", "Base", "Ctx"];
/// Names of modules for things without a place.
const DRAWERS: [&str; 7] = ["common", "util", "utils", "misc", "types", "helper", "helpers"];

fn sources(files: &[File]) -> impl Iterator<Item = &File> {
    let ours = |path: &str| path.starts_with("crates/") || path.starts_with("tests/");
    files.iter().filter(move |file| file.has_extension("rs") && ours(&file.path))
}

/// Files that are too long.
pub(crate) fn file_length(files: &[File]) -> Vec<String> {
    let long = sources(files).filter_map(|file| {
        let lines = file.text.lines().count();
        (lines > FILE).then(|| {
            file.at_line(
                lines,
                &format!("{lines} lines, {FILE} are allowed: split it by what changes together"),
            )
        })
    });
    long.collect()
}

/// Files on the way of a bucket that are not there, or too long to be read in one go.
pub(crate) fn way(files: &[File]) -> Vec<String> {
    let broken = WAY.into_iter().filter_map(|path| {
        let Some(file) = files.iter().find(|file| file.path == path) else {
            return Some(format!(
                "{path}:1: is on the way of a bucket and not there: name what is in its place"
            ));
        };
        let lines = file.text.lines().count();
        (lines > ON_THE_WAY).then(|| {
            let why = format!(
                "{lines} lines on the way of a bucket, {ON_THE_WAY} are allowed: leave its course here"
            );
            file.at_line(lines, &why)
        })
    });
    broken.collect()
}

/// Functions that are too long.
pub(crate) fn function_length(files: &[File]) -> Vec<String> {
    let mut violations = Vec::new();
    for file in sources(files) {
        for (start, name) in declared(&file.code, "fn") {
            let end = rust::item_end(&file.code, start);
            let lines = file.line(end - 1) - file.line(start) + 1;
            if lines >= FUNCTION {
                violations.push(file.at(
                    start,
                    &format!(
                        "fn {name} has {lines} lines, fewer than {FUNCTION} are allowed: give its steps names"
                    ),
                ));
            }
        }
    }
    violations
}

/// Types whose names end in an empty word.
pub(crate) fn type_names(files: &[File]) -> Vec<String> {
    let mut violations = Vec::new();
    for file in sources(files) {
        for keyword in ["struct", "enum", "trait", "union"] {
            for (start, name) in declared(&file.code, keyword) {
                if let Some(ending) = EMPTY_ENDINGS.iter().find(|ending| name.ends_with(*ending)) {
                    violations.push(
                        file.at(
                            start,
                            &format!("{keyword} {name}: \"{ending}\" says nothing, name what it is"),
                        ),
                    );
                }
            }
        }
    }
    violations
}

/// Modules, folders and files, named as drawers.
pub(crate) fn module_names(files: &[File]) -> Vec<String> {
    let mut violations = Vec::new();
    let remedy = "is a drawer: put each thing where it is used, or name what it is";
    for file in sources(files) {
        for part in file.path.trim_end_matches(".rs").split('/') {
            if DRAWERS.contains(&part) {
                violations.push(file.at_line(1, &format!("{part} {remedy}")));
            }
        }
        for (start, name) in declared(&file.code, "mod") {
            let inline = file.code[start..rust::item_end(&file.code, start)].ends_with('}');
            if inline && DRAWERS.contains(&name) {
                violations.push(file.at(start, &format!("mod {name} {remedy}")));
            }
        }
    }
    violations
}

/// Crates whose first line does not say what is inside.
pub(crate) fn doors(files: &[File]) -> Vec<String> {
    let door = |path: &str| path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs");
    sources(files)
        .filter(|file| door(&file.path) && !file.text.starts_with("//!"))
        .map(|file| file.at_line(1, "the door is bare: start with `//! ` and what is inside"))
        .collect()
}

/// What `keyword` declares: the keyword's offset and the name after it.
fn declared<'code>(code: &'code str, keyword: &str) -> Vec<(usize, &'code str)> {
    let words = rust::words(code);
    let pairs = words.windows(2).filter(|pair| {
        let (start, word) = pair[0];
        word == keyword && rust::skip_space(code, start + word.len()) == pair[1].0
    });
    pairs.map(|pair| (pair[0].0, pair[1].1)).collect()
}

#[cfg(test)]
fn file(text: &str) -> [File; 1] {
    [File::new("crates/model/src/lib.rs", text)]
}

#[test]
fn a_long_file_is_found() {
    assert!(file_length(&file(&"//\n".repeat(FILE))).is_empty());
    assert_eq!(file_length(&file(&"//\n".repeat(FILE + 1))).len(), 1);
    let python = File::new("tests/a.py", &"#\n".repeat(FILE + 1));
    assert!(file_length(&[python]).is_empty(), "Rust only");
}

#[test]
fn a_part_of_the_way_that_is_long_or_missing_is_found() {
    let of = |lines: usize| "//\n".repeat(lines);
    let mut files: Vec<File> = WAY.iter().map(|path| File::new(path, &of(ON_THE_WAY))).collect();
    assert!(way(&files).is_empty());
    files[3] = File::new(WAY[3], &of(ON_THE_WAY + 1));
    files.pop();
    let found = way(&files);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with(WAY[3]) && found[1].starts_with(WAY[20]), "{found:?}");
}

#[test]
fn a_long_function_is_found() {
    let text = |lines: usize| {
        let body = "        // } not a bracket\n".repeat(lines - 2);
        format!(
            "trait T {{\n    fn none(&self);\n    pub async fn long<const N: usize>(x: [u8; 2]) {{\n{body}    }}\n}}\n"
        )
    };
    assert!(function_length(&file(&text(FUNCTION - 1))).is_empty());
    let found = function_length(&file(&text(FUNCTION)));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("crates/model/src/lib.rs:3: fn long has 70 lines"), "{}", found[0]);
}

#[test]
fn an_empty_ending_is_found() {
    let found = type_names(&file(
        "pub struct NodeManager;\nenum\n  RunData {}\ntrait StoreImpl {}\nstruct Ctx<T>(T);\n",
    ));
    assert_eq!(found.len(), 4, "{found:?}");
    let good = "struct Metadata;\nstruct Database;\n// struct NodeInfo\ntype Data = u8;\nstruct Utility;\n";
    assert!(type_names(&file(good)).is_empty());
}

#[test]
fn a_drawer_is_found() {
    for path in ["crates/model/src/utils.rs", "crates/app/src/common/mod.rs", "tests/helpers.rs"] {
        assert_eq!(module_names(&[File::new(path, "")]).len(), 1, "{path}");
    }
    assert_eq!(module_names(&file("pub mod misc { }")).len(), 1);
    assert!(module_names(&[File::new("crates/model/src/common_name.rs", "mod restart;")]).is_empty());
}

#[test]
fn a_bare_door_is_found() {
    assert!(doors(&file("//! The nouns.\n")).is_empty());
    assert_eq!(doors(&file("// The nouns.\n")).len(), 1);
    assert_eq!(doors(&file("use a::b;\n//! Late.\n")).len(), 1);
}
