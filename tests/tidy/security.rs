//! The page on attacks: each line of what cannot be done names tests that try it, each of what can be done tests that show it,
//! and they exist.

use crate::tree::File;

const PAGE: &str = "deploy/security.md";
/// What lists are headed by.
const CANNOT: &str = "Cannot:";
const CAN: &str = "Can:";

/// One line of a list, however many lines of text it takes.
struct Item {
    line: usize,
    cannot: bool,
    text: String,
}

/// Lines that name no test, and tests that do not exist.
pub(crate) fn proofs(files: &[File]) -> Vec<String> {
    let Some(page) = files.iter().find(|file| file.path == PAGE) else {
        return vec![format!("{PAGE}:1: does not exist: it says what an attacker can and cannot do")];
    };
    let items = items(&page.text);
    let mut violations = Vec::new();
    if !items.iter().any(|item| item.cannot) || items.iter().all(|item| item.cannot) {
        violations.push(page.at_line(1, &format!("has lists headed by `{CANNOT}` and by `{CAN}`")));
    }
    for item in items {
        let named: Vec<(&str, &str)> = item.text.split('`').skip(1).step_by(2).filter_map(proof).collect();
        if named.is_empty() {
            violations.push(page.at_line(item.line, "names no test: `tests/FILE.rs: NAME`"));
        }
        for (path, name) in named {
            let file = files.iter().find(|file| file.path == path);
            if !file.is_some_and(|file| has_test(file, name)) {
                violations.push(page.at_line(item.line, &format!("{path} has no test {name:?}")));
            }
        }
    }
    violations
}

fn items(text: &str) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let (mut cannot, mut within) = (false, false);
    for (index, line) in text.lines().enumerate() {
        match line.strip_prefix("- ") {
            Some(text) => {
                items.push(Item { line: index + 1, cannot, text: text.to_owned() });
                within = true;
            }
            None if line.starts_with("  ") && within => {
                if let Some(item) = items.last_mut() {
                    item.text.push(' ');
                    item.text.push_str(line.trim());
                }
            }
            None => {
                within = false;
                cannot = line == CANNOT || (cannot && line.is_empty());
            }
        }
    }
    items
}

/// `FILE: NAME`.
fn proof(quoted: &str) -> Option<(&str, &str)> {
    let (path, name) = quoted.split_once(": ")?;
    ["crates/", "tests/"].iter().any(|folder| path.starts_with(folder)).then_some((path, name))
}

/// A function that is a test, or a case by the text that it is run under.
fn has_test(file: &File, name: &str) -> bool {
    if name.contains(' ') {
        return file.text.contains(&format!("\"{name}\""));
    }
    let function = format!("fn {name}(");
    file.code.match_indices(&function).any(|(offset, _)| {
        // From its own line upwards, through its attributes.
        let above = file.code[..offset].rsplit('\n').skip(1).map(str::trim);
        let mut attributes = above.take_while(|line| line.is_empty() || line.starts_with("#["));
        attributes.any(|line| line == "#[test]" || line.starts_with("#[tokio::test"))
    })
}

#[test]
fn what_names_no_test_or_a_dead_one_is_found() {
    let page = "Words.\n\nCannot:\n\n- fly.\n  `tests/a.rs: it_falls`,\n  `tests/a.rs: a case`\n- swim\n- run: `tests/a.rs: \
                helper`\n- hop `tests/b.rs: x`, `tests/a.rs: another case`\n\nCan:\n\n- walk\n- sing `tests/a.rs: gone`\n- sit `tests/a.rs: it_falls`\n";
    let tests = "#[test]\n/// Words.\nfn it_falls() {\n    run(\"a case\");\n}\n\nfn helper() {}\n";
    let found = proofs(&[File::new(PAGE, page), File::new("tests/a.rs", tests)]);
    assert_eq!(
        found,
        [
            "deploy/security.md:8: names no test: `tests/FILE.rs: NAME`",
            "deploy/security.md:9: tests/a.rs has no test \"helper\"",
            "deploy/security.md:10: tests/b.rs has no test \"x\"",
            "deploy/security.md:10: tests/a.rs has no test \"another case\"",
            "deploy/security.md:14: names no test: `tests/FILE.rs: NAME`",
            "deploy/security.md:15: tests/a.rs has no test \"gone\"",
        ]
    );
    assert_eq!(proofs(&[]).len(), 1);
    assert_eq!(proofs(&[File::new(PAGE, "Cannot:\n\n- a `tests/a.rs: b`\n")]).len(), 2);
}
