//! The rules of the house that no compiler checks, each a test that names every place that breaks it.
//!
//! Read `tree` (the files), `rust` (their text without comments and literals), then the rules:
//!
//! | module | rules |
//! | --- | --- |
//! | `graph` | who may depend on whom; who owns which outside package |
//! | `ownership` | the same within the code, and who may handle processes |
//! | `shape` | lengths of files and functions, names, the doors of crates |
//! | `care` | unwrap, expect, ignored tests, unfinished code |
//! | `house` | the top level, words that must not appear, paths that documents name, the lock file |
//! | `proto` | a comment on everything in the interface |
//! | `security` | what the page on attacks says cannot be done is tried by tests that exist |
//!
//! Every rule is a function from files to violations, tried below itself on small bad inputs.

#[path = "tidy/care.rs"]
mod care;
#[path = "tidy/graph.rs"]
mod graph;
#[path = "tidy/house.rs"]
mod house;
#[path = "tidy/ownership.rs"]
mod ownership;
#[path = "tidy/proto.rs"]
mod proto;
#[path = "tidy/rust.rs"]
mod rust;
#[path = "tidy/security.rs"]
mod security;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/tree.rs"]
mod tree;

use tree::{File, workspace};

/// Fails with every violation on a line of its own.
fn judge(rule: &str, mut violations: Vec<String>) {
    violations.sort();
    assert!(
        violations.is_empty(),
        "\n{rule} ({} broken):\n  {}\n",
        violations.len(),
        violations.join("\n  ")
    );
}

fn files() -> &'static [File] {
    &workspace().files
}

#[test]
fn crates_depend_only_on_crates_below_them() {
    judge("The table of crates in tests/tidy/graph.rs", graph::edges(files()));
}

#[test]
fn outside_packages_have_their_owners() {
    judge("One owner for each outside package", graph::outside(files()));
}

#[test]
fn every_manifest_takes_the_workspace_lints() {
    judge("Lints are the workspace's", graph::lints(files()));
}

#[test]
fn owned_paths_are_used_by_their_owners() {
    judge("One owner for each outside library and for processes", ownership::paths(files()));
}

#[test]
fn files_fit() {
    judge("A file has at most 600 lines", shape::file_length(files()));
}

#[test]
fn the_way_of_a_bucket_can_be_read() {
    judge("A file on the way of a bucket has at most 400 lines", shape::way(files()));
}

#[test]
fn functions_fit() {
    judge("A function has under 70 lines", shape::function_length(files()));
}

#[test]
fn types_say_what_they_are() {
    judge("No empty words at the end of a type's name", shape::type_names(files()));
}

#[test]
fn modules_say_what_they_hold() {
    judge("No module for things without a place", shape::module_names(files()));
}

#[test]
fn every_crate_has_a_door() {
    judge("lib.rs and main.rs start with what is inside", shape::doors(files()));
}

#[test]
fn ignored_tests_say_why() {
    judge("An ignored test has a reason", care::ignored(files()));
}

#[test]
fn nothing_is_unfinished() {
    judge("No todo, unimplemented or dbg", care::unfinished(files()));
}

#[test]
fn no_unwrap_outside_tests() {
    judge("No unwrap outside tests", care::unwraps(files()));
}

#[test]
fn expect_says_why_it_cannot_fail() {
    judge("expect says in three words or more why it cannot fail", care::expects(files()));
}

#[test]
fn the_top_level_is_what_was_agreed() {
    judge("The visible top level", house::top_level(&workspace().top));
}

#[test]
fn no_file_names_a_machine_or_a_registry() {
    judge("Sheaf speaks of Sheaf", house::mentions(files()));
}

#[test]
fn paths_in_documents_exist() {
    judge("Documents name what is there", house::dead_paths(files()));
}

#[test]
fn packaged_protos_are_copies() {
    judge("A packaged proto is the same as its original", house::packaged_protos(files()));
}

#[test]
fn the_lock_file_keeps_to_the_deny_list() {
    judge("Cargo.lock against .deny.toml", house::lock_file(files()));
}

#[test]
fn everything_in_the_interface_has_a_comment() {
    judge("The proto files are the documentation", proto::comments(files()));
}

#[test]
fn the_security_page_is_proven() {
    judge("What cannot be done is tried, and what can is shown", security::proofs(files()));
}

#[test]
fn packaged_copies_are_copies() {
    judge("A packaged copy is the original, byte for byte", proto::packaged(files()));
}
