//! Who depends on whom, read from the manifests.

use toml::{Table, Value};

use crate::tree::File;

/// Each crate under `crates/`, and the crates that it may depend on. Layers are in this order.
const EDGES: &[(&str, &[&str])] = &[
    (STAND_IN, &[]),
    ("model", &[]),
    ("engine", &["model"]),
    ("wire", &["model"]),
    ("module", &[]),
    ("store", &["model", "engine"]),
    ("builtins", &["model", "module"]),
    ("consensus", &["model", "engine", "wire", "store"]),
    ("artifact", &["model", "engine", "wire"]),
    ("seal", &["model"]),
    ("trust", &["model", "seal"]),
    ("agent", &["model", "engine", "wire", "module", "builtins", "artifact", "seal", "trust"]),
    ("console", &["model", "wire", "module", "artifact", "seal", "trust"]),
    ("control", &["model", "engine", "wire", "store", "consensus", "artifact", "seal", "trust"]),
    ("web", &["model", "wire"]),
    ("app", &APP),
];

/// Who asks for whom in tests alone: connections are tried with certificates that somebody must issue.
const TRIED: &[(&str, &str)] = &[("wire", "trust"), ("web", "trust")];

/// Takes the place of an outside package, under that package's name; none of ours asks for it.
const STAND_IN: &str = "histogram";

const APP: [&str; 14] = [
    "model",
    "engine",
    "wire",
    "module",
    "store",
    "builtins",
    "consensus",
    "artifact",
    "seal",
    "trust",
    "agent",
    "console",
    "control",
    "web",
];

/// Outside packages (a trailing `*` stands for any ending) and the only crates that may name them.
const OWNED: &[(&[&str], &[&str], &str)] = &[
    (&["tonic"], &["wire", "module", "app"], "ask wire for a trait or a client that speaks model"),
    (
        &["tonic-*", "prost*", "protox*"],
        &["wire", "module"],
        "ask wire for a trait or a client that speaks model",
    ),
    (&["openraft*", "raft-log"], &["consensus"], "ask consensus' Replica"),
    (&["rusqlite", "libsqlite3-sys"], &["store"], "ask store"),
    (&["tar", "sha2", "flate2"], &["artifact"], "ask artifact to pack, unpack or verify"),
    (&["opentelemetry*"], &["wire"], "ask wire for a span"),
    (&["ring"], &["seal"], "ask seal to seal or to open"),
    (&["rcgen", "pem"], &["trust"], "ask trust for a certificate"),
    (
        &["rustls", "tokio-rustls", "rustls-webpki", "rustls-native-certs"],
        &["wire", "builtins"],
        "ask wire for a Transport, or its outward; builtins speak with services that are no part of a cluster",
    ),
    (&["anyhow"], &["app"], "an error enum with thiserror"),
];

/// Outside packages that keep a crate from being pure.
const IMPURE: &[&str] =
    &["tokio*", "futures*", "rand*", "uuid", "tracing*", "sysinfo", "hostname", "rustix", "tempfile"];
const PURE: &[&str] = &["model", "engine"];

/// One line of a manifest that asks for a package.
struct Dependency {
    package: String,
    /// For tests only: `[dev-dependencies]`.
    dev: bool,
    line: usize,
}

/// Packages under `crates/` are in the table, are named as their folder says, and keep to its edges.
pub(crate) fn edges(files: &[File]) -> Vec<String> {
    let mut violations = Vec::new();
    for manifest in manifests(files) {
        let Some(table) = parse(manifest, &mut violations) else { continue };
        let name = package_name(&table);
        let Some(krate) = crate_of(&manifest.path) else {
            if manifest.path == "tests/simulation/Cargo.toml" {
                check_edges(
                    manifest,
                    &dependencies(manifest, &table),
                    "simulation",
                    &["model", "engine"],
                    &mut violations,
                );
            }
            continue;
        };
        let expected = package_of(krate);
        if name != expected {
            violations.push(manifest.at_line(1, &format!("package {name}, its folder says {expected}")));
        }
        match EDGES.iter().find(|(known, _)| *known == krate) {
            Some((_, allowed)) => {
                check_edges(manifest, &dependencies(manifest, &table), krate, allowed, &mut violations);
            }
            None => violations.push(manifest.at_line(
                1,
                &format!("crate {krate} has no place in the table: decide its layer, then add it to tests/tidy/graph.rs"),
            )),
        }
    }
    violations
}

fn check_edges(
    manifest: &File,
    found: &[Dependency],
    krate: &str,
    allowed: &[&str],
    violations: &mut Vec<String>,
) {
    for dependency in found {
        let package = &dependency.package;
        if *package != "sheaf" && !package.starts_with("sheaf-") {
            continue;
        }
        let target = package.strip_prefix("sheaf-").unwrap_or("app");
        let tried = dependency.dev && TRIED.contains(&(krate, target));
        if !allowed.contains(&target) && !tried {
            let may = if allowed.is_empty() { "none of our crates".to_owned() } else { allowed.join(", ") };
            violations.push(manifest.at_line(
                dependency.line,
                &format!("{krate} must not depend on {target}: it may on {may}; move what it needs down, or pass it in"),
            ));
        }
    }
}

/// Outside packages that have an owner are asked for by it alone; pure crates ask for nothing that is not.
pub(crate) fn outside(files: &[File]) -> Vec<String> {
    let mut violations = Vec::new();
    for manifest in manifests(files) {
        let Some(krate) = crate_of(&manifest.path) else { continue };
        let Some(table) = parse(manifest, &mut violations) else { continue };
        for Dependency { package, dev, line } in dependencies(manifest, &table) {
            let named = |patterns: &[&str]| patterns.iter().any(|pattern| is_named(&package, pattern));
            for (_, owners, remedy) in OWNED.iter().filter(|(patterns, ..)| named(patterns)) {
                if !owners.contains(&krate) {
                    let who = owners.join(", ");
                    violations.push(manifest.at_line(line, &format!("{package} belongs to {who}: {remedy}")));
                }
            }
            // A test may write to a temporary folder; what runs may not.
            let tried = dev && package == "tempfile";
            if PURE.contains(&krate) && named(IMPURE) && !tried {
                violations.push(manifest.at_line(
                    line,
                    &format!("{package} in {krate}, which is pure: take the value as an argument, return the action"),
                ));
            }
        }
    }
    violations
}

/// Every manifest says `lints.workspace = true`.
pub(crate) fn lints(files: &[File]) -> Vec<String> {
    let mut violations = Vec::new();
    for manifest in manifests(files).filter(|manifest| manifest.path != "Cargo.toml") {
        let Some(table) = parse(manifest, &mut violations) else { continue };
        let inherited = table.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool);
        if inherited != Some(true) {
            violations.push(manifest.at_line(1, "no workspace lints: add `[lints]` with `workspace = true`"));
        }
    }
    violations
}

fn manifests(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|file| file.path.rsplit('/').next() == Some("Cargo.toml"))
}

fn parse(manifest: &File, violations: &mut Vec<String>) -> Option<Table> {
    let parsed = manifest.text.parse::<Table>();
    parsed.map_err(|error| violations.push(manifest.at_line(1, &format!("not TOML: {error}")))).ok()
}

fn crate_of(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")
}

fn package_of(krate: &str) -> String {
    match krate {
        "app" => "sheaf".to_owned(),
        STAND_IN => "base2histogram".to_owned(),
        _ => format!("sheaf-{krate}"),
    }
}

fn package_name(table: &Table) -> &str {
    table
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(Value::as_str)
        .unwrap_or("without a name")
}

/// Whatever the manifest asks for, in any section, for any target, under its package's own name.
fn dependencies(manifest: &File, table: &Table) -> Vec<Dependency> {
    let mut found = sections(manifest, table);
    if let Some(targets) = table.get("target").and_then(Value::as_table) {
        for target in targets.values().filter_map(Value::as_table) {
            found.extend(sections(manifest, target));
        }
    }
    found
}

fn sections(manifest: &File, table: &Table) -> Vec<Dependency> {
    let mut found = Vec::new();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (name, wish) in table.get(section).and_then(Value::as_table).into_iter().flatten() {
            let package = wish.get("package").and_then(Value::as_str).unwrap_or(name).to_owned();
            found.push(Dependency {
                package,
                dev: section == "dev-dependencies",
                line: line_of(manifest, section, name),
            });
        }
    }
    found
}

/// The line below `[section]` that begins with `name`; the first line if it is written in some other way.
fn line_of(manifest: &File, section: &str, name: &str) -> usize {
    let mut within = false;
    for (index, line) in manifest.text.lines().enumerate() {
        if line.starts_with('[') {
            within = line.contains(section) && (section != "dependencies" || !line.contains("-dependencies"));
            if within && line.contains(&format!(".{name}]")) {
                return index + 1;
            }
        } else if within && line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '.', '='])) {
            return index + 1;
        }
    }
    1
}

fn is_named(package: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => package.starts_with(beginning),
        None => package == pattern,
    }
}

#[cfg(test)]
fn manifest(krate: &str, rest: &str) -> Vec<File> {
    let text = format!("[package]\nname = \"{}\"\n[lints]\nworkspace = true\n{rest}", package_of(krate));
    vec![File::new(&format!("crates/{krate}/Cargo.toml"), &text)]
}

#[test]
fn the_app_may_use_every_other_crate() {
    for (krate, allowed) in EDGES {
        let is_apps = *krate == "app" || *krate == STAND_IN || APP.contains(krate);
        assert!(is_apps, "{krate} is missing from the list of app");
        assert!(
            allowed.iter().all(|target| EDGES.iter().any(|(known, _)| known == target)),
            "{krate} names no crate"
        );
    }
}

#[test]
fn an_edge_upwards_is_found_in_every_section() {
    assert!(edges(&manifest("wire", "[dependencies]\nsheaf-model.workspace = true\n")).is_empty());
    for section in
        ["dependencies", "dev-dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"]
    {
        let found =
            edges(&manifest("wire", &format!("[{section}]\nserde = \"1\"\nsheaf-engine.workspace = true\n")));
        assert_eq!(found.len(), 1, "{section}");
        assert!(
            found[0].starts_with("crates/wire/Cargo.toml:7: wire must not depend on engine"),
            "{}",
            found[0]
        );
    }
    let renamed =
        edges(&manifest("model", "[dependencies]\nother = { package = \"sheaf\", path = \"../app\" }\n"));
    assert!(renamed[0].contains("model must not depend on app"), "{renamed:?}");
}

#[test]
fn a_crate_outside_the_table_is_found() {
    let found = edges(&manifest("gossip", ""));
    assert!(found[0].contains("crate gossip has no place in the table"), "{found:?}");
    let misnamed = [File::new("crates/model/Cargo.toml", "[package]\nname = \"model\"\n")];
    assert!(edges(&misnamed)[0].contains("its folder says sheaf-model"));
    let simulation =
        File::new("tests/simulation/Cargo.toml", "[dependencies]\nsheaf-wire.workspace = true\n");
    assert_eq!(edges(&[simulation]).len(), 1);
}

#[test]
fn an_owned_package_elsewhere_is_found() {
    let bad = [
        ("agent", "tonic"),
        ("app", "tonic-health"),
        ("control", "prost-types"),
        ("store", "openraft"),
        ("control", "rusqlite"),
        ("engine", "tokio-util"),
        ("console", "anyhow"),
    ];
    for (krate, package) in bad {
        assert_eq!(
            outside(&manifest(krate, &format!("[dependencies]\n{package} = \"1\"\n"))).len(),
            1,
            "{package}"
        );
    }
    for (krate, package) in
        [("wire", "tonic-prost"), ("app", "tonic"), ("store", "rusqlite"), ("agent", "tokio")]
    {
        assert!(
            outside(&manifest(krate, &format!("[dependencies]\n{package} = \"1\"\n"))).is_empty(),
            "{package}"
        );
    }
}

#[test]
fn own_lints_are_found() {
    assert!(lints(&manifest("model", "")).is_empty());
    let own = File::new(
        "crates/model/Cargo.toml",
        "[package]\nname = \"sheaf-model\"\n[lints.rust]\nunsafe_code = \"allow\"\n",
    );
    assert_eq!(lints(&[own]).len(), 1);
}
