//! Care: what may fail is handled, what is left out says why.

use std::collections::BTreeSet;

use crate::rust;
use crate::tree::File;

fn sources(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|file| file.has_extension("rs"))
}

/// `#[ignore]` without a reason.
pub(crate) fn ignored(files: &[File]) -> Vec<String> {
    let mut violations = Vec::new();
    for file in sources(files) {
        for (offset, word) in rust::words(&file.code) {
            if word == "ignore" && in_attribute(&file.code, offset) && !has_reason(file, offset + word.len())
            {
                violations.push(file.at(offset, "ignored without a reason: #[ignore = \"needs …\"]"));
            }
        }
    }
    violations
}

/// Whether the word at `offset` is an attribute's own, or one that `cfg_attr` adds.
fn in_attribute(code: &str, offset: usize) -> bool {
    let before = code[..offset].trim_end();
    let line = before.rsplit('\n').next().unwrap_or(before).trim_start();
    before.ends_with("#[") || (line.starts_with("#[cfg_attr(") && before.ends_with(','))
}

/// Whether `= "some text"` follows.
fn has_reason(file: &File, after: usize) -> bool {
    let rest = file.text[after..].trim_start();
    let reason = rest.strip_prefix('=').map(str::trim_start).and_then(|rest| rest.strip_prefix('"'));
    reason.and_then(|rest| rest.split_once('"')).is_some_and(|(reason, _)| !reason.trim().is_empty())
}

/// Macros that stand for code to be written.
pub(crate) fn unfinished(files: &[File]) -> Vec<String> {
    let mut violations = Vec::new();
    for file in sources(files) {
        for (offset, word) in rust::words(&file.code) {
            let called = file.code[offset + word.len()..].starts_with('!');
            if called && ["todo", "unimplemented", "dbg"].contains(&word) {
                violations.push(
                    file.at(offset, &format!("{word}! is left over: finish it, or leave the whole part out")),
                );
            }
        }
    }
    violations
}

/// `.unwrap()` in what is shipped.
pub(crate) fn unwraps(files: &[File]) -> Vec<String> {
    let mut violations = Vec::new();
    for (file, offset, name) in shipped_calls(files) {
        if name == "unwrap" || name == "unwrap_err" {
            violations.push(
                file.at(offset, &format!(".{name}(): return the error, or expect(\"why it cannot fail\")")),
            );
        }
    }
    violations
}

/// `.expect("…")` in what is shipped, with too few words for a reason.
pub(crate) fn expects(files: &[File]) -> Vec<String> {
    let mut violations = Vec::new();
    for (file, offset, name) in shipped_calls(files) {
        let Some(reason) = (name == "expect").then(|| first_literal(file, offset)).flatten() else {
            continue;
        };
        if reason.split_whitespace().count() < 3 {
            violations.push(
                file.at(offset, &format!("expect({reason:?}): say why it cannot fail, or return the error")),
            );
        }
    }
    violations
}

/// Calls of methods in `crates/*/src` outside tests: file, offset of the name, name.
fn shipped_calls(files: &[File]) -> Vec<(&File, usize, &str)> {
    let tests = test_modules(files);
    let mut calls = Vec::new();
    for file in sources(files).filter(|file| is_shipped(&file.path, &tests)) {
        for (offset, word) in rust::words(&file.code) {
            let before = file.code[..offset].trim_end().ends_with('.');
            let after = file.code[offset + word.len()..].trim_start().starts_with('(');
            if before && after && !file.in_test_item(offset) {
                calls.push((file, offset, word));
            }
        }
    }
    calls
}

fn is_shipped(path: &str, tests: &BTreeSet<String>) -> bool {
    let within = path.strip_prefix("crates/").and_then(|rest| rest.split_once('/')).map(|(_, within)| within);
    let Some(within) = within.filter(|within| within.starts_with("src/")) else { return false };
    let named = within.contains("/tests/") || within.ends_with("/tests.rs");
    !named && !tests.iter().any(|test| path == format!("{test}.rs") || path.starts_with(&format!("{test}/")))
}

/// Modules that `#[cfg(test)] mod name;` declares, as paths without the ending.
fn test_modules(files: &[File]) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for file in sources(files) {
        for item in &file.test_items {
            let declaration = &file.code[rust::after_attributes(&file.code, item.start)..item.end];
            let words: Vec<&str> = rust::words(declaration).into_iter().map(|(_, word)| word).collect();
            if let (true, Some(at)) =
                (declaration.ends_with(';'), words.iter().position(|word| *word == "mod"))
                && let Some(name) = words.get(at + 1)
            {
                modules.insert(format!("{}/{name}", folder_of_children(&file.path)));
            }
        }
    }
    modules
}

/// Where the modules lie that the file at `path` declares.
fn folder_of_children(path: &str) -> &str {
    let stem = path.trim_end_matches(".rs");
    match stem.rsplit_once('/') {
        Some((folder, "lib" | "main" | "mod")) => folder,
        _ => stem,
    }
}

/// The string literal that is the first argument of the call whose name stands at `offset`.
fn first_literal(file: &File, offset: usize) -> Option<&str> {
    let open = offset + file.code[offset..].find('(')? + 1;
    let start = rust::skip_space(&file.code, open);
    let raw = file.code[start..].trim_start_matches(['r', '#']);
    let inside = file.code.len() - raw.len() + 1;
    raw.starts_with('"').then(|| &file.text[inside..inside + raw[1..].find('"').unwrap_or(0)])
}

#[cfg(test)]
fn shipped(text: &str) -> [File; 1] {
    [File::new("crates/agent/src/link.rs", text)]
}

#[test]
fn a_test_ignored_without_reason_is_found() {
    for bad in
        ["#[ignore]\nfn a() {}", "#[ignore = \" \"]\nfn a() {}", "#[cfg_attr(not(unix), ignore)]\nfn a() {}"]
    {
        assert_eq!(ignored(&shipped(bad)).len(), 1, "{bad}");
    }
    for good in
        ["#[ignore = \"needs Docker\"]", "let ignore = 1;", "// #[ignore]", "#[cfg_attr(x, ignore = \"y\")]"]
    {
        assert!(ignored(&shipped(good)).is_empty(), "{good}");
    }
}

#[test]
fn unfinished_code_is_found() {
    assert_eq!(
        unfinished(&shipped("fn a() { todo!() }\nfn b() { dbg!(1); std::unimplemented!(); }")).len(),
        3
    );
    assert!(unfinished(&shipped("// todo!()\nlet todo = !done; \"dbg!\"")).is_empty());
}

#[test]
fn an_unwrap_outside_tests_is_found() {
    let found = unwraps(&shipped("fn a() {\n    b\n        .unwrap();\n}\n"));
    assert!(found[0].starts_with("crates/agent/src/link.rs:3: .unwrap()"), "{found:?}");
    assert_eq!(unwraps(&shipped("fn a() { b.unwrap_err() }")).len(), 1);
    let good = "fn a() { b.unwrap_or(1) } // .unwrap()\n#[cfg(test)]\nmod tests { fn c() { d.unwrap() } }\n";
    assert!(unwraps(&shipped(good)).is_empty());
    let after = "#[cfg(test)]\nmod tests { fn c() { d.unwrap() } }\nfn a() { b.unwrap() }\n";
    assert_eq!(unwraps(&shipped(after)).len(), 1, "code after the tests is shipped");
}

#[test]
fn files_of_tests_may_unwrap() {
    let bad = "fn a() { b.unwrap() }";
    for path in
        ["crates/agent/tests/a.rs", "crates/agent/src/link/tests.rs", "tests/a.rs", "crates/agent/build.rs"]
    {
        assert!(unwraps(&[File::new(path, bad)]).is_empty(), "{path}");
    }
    let declared = |path: &str| {
        let door = File::new("crates/agent/src/link.rs", "#[cfg(test)]\nmod scenario;\n");
        unwraps(&[door, File::new(path, bad)]).len()
    };
    assert_eq!(declared("crates/agent/src/link/scenario.rs"), 0);
    assert_eq!(declared("crates/agent/src/link/scenario/step.rs"), 0);
    assert_eq!(declared("crates/agent/src/scenario.rs"), 1);
}

#[test]
fn an_expect_without_a_reason_is_found() {
    for bad in ["a.expect(\"\")", "a.expect(\"lock poisoned\")", "a\n.expect(\n  r#\"no way\"#)"] {
        assert_eq!(expects(&shipped(bad)).len(), 1, "{bad}");
    }
    for good in
        ["a.expect(\"the lock is never poisoned\")", "parser.expect(Token::Comma)", "#[expect(unused)]"]
    {
        assert!(expects(&shipped(good)).is_empty(), "{good}");
    }
}
