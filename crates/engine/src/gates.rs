//! The three gates, asked on the node itself: may this node run this bucket, and if not, why.
//!
//! ```text
//!  bucket, module, what the node is ──► local_config ─┐
//!  bucket's rules, hostname, labels ──► node_list_rules ─┼─► Verdict, always with all three
//!  answers to the module's checks ────► can_run_on_this_node ─┘
//! ```
//!
//! The first two are computed here. The third is asked of the machine: [`checks`] says what to ask, [`Answer`] is what
//! came back, [`can_run`] what follows from it.

use sheaf_model::rule::glob_matches;
use sheaf_model::{
    BucketSpec, Check, CheckKind, CompiledRules, Digest, GateOutcome, ModuleName, ModuleSpec, Revision,
    Runtime, Verdict,
};

/// Of a running instance only this many unclear answers in a row refuse.
pub const UNCLEAR_REFUSES: u32 = 3;

/// What of a node the first two gates read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// The node's name; for templates.
    pub name: String,
    /// What rules match.
    pub hostname: String,
    /// All its labels, from its config file and given.
    pub labels: Vec<String>,
    /// Names or globs of modules it allows; empty: all.
    pub allow: Vec<String>,
    /// Names or globs of modules it denies; wins over `allow`.
    pub deny: Vec<String>,
}

/// Which of a module's checks are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Those that must hold as long as an instance runs.
    Lasting,
    /// Those asked before a start only: memory, disk, ports.
    Admission,
}

/// What the machine says to one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckAnswer {
    /// It holds.
    Holds,
    /// It does not, and why.
    Fails(String),
    /// It could not be found out: an error or a time-out.
    Unclear(String),
}

/// What the machine says to all checks of a [`Part`] together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All hold.
    Yes,
    /// A plain no: every reason.
    No(String),
    /// No plain no, but something could not be found out.
    Unclear(String),
}

impl Answer {
    /// All checks must hold; one plain no outweighs what is unclear. Every reason is kept, in the order asked.
    pub fn of(answers: &[CheckAnswer]) -> Self {
        let fails: Vec<&str> = answers.iter().filter_map(CheckAnswer::failure).collect();
        let unclear: Vec<&str> = answers.iter().filter_map(CheckAnswer::doubt).collect();
        match (fails.is_empty(), unclear.is_empty()) {
            (true, true) => Self::Yes,
            (true, false) => Self::Unclear(unclear.join("; ")),
            (false, _) => Self::No(fails.into_iter().chain(unclear).collect::<Vec<_>>().join("; ")),
        }
    }
}

impl CheckAnswer {
    fn failure(&self) -> Option<&str> {
        match self {
            Self::Fails(reason) => Some(reason),
            Self::Holds | Self::Unclear(_) => None,
        }
    }

    fn doubt(&self) -> Option<&str> {
        match self {
            Self::Unclear(reason) => Some(reason),
            Self::Holds | Self::Fails(_) => None,
        }
    }
}

/// What is known of gate 3 for one bucket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The newest answer to the lasting checks; none: not answered yet.
    pub lasting: Option<&'a Answer>,
    /// The newest answer to the admission checks.
    pub admission: Option<&'a Answer>,
    /// How many answers to the lasting checks in a row were unclear, the newest included.
    pub unclear: u32,
    /// Whether an instance of the bucket is alive here.
    pub running: bool,
    /// Whether the module's artifact is here.
    pub equipment: Equipment<'a>,
}

/// Whether a node has what a module needs before it can be asked or run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Equipment<'a> {
    /// Its artifact is here, or it needs none.
    #[default]
    Complete,
    /// It names `${artifact}`, and none was pushed for its version.
    NeverPushed,
    /// So many hundredths are here.
    Fetching(&'a Digest, u8),
    /// It cannot be had now, and why.
    Failed(&'a Digest, &'a str),
}

/// The checks of `part` that may be asked. Where gate 1 refuses (`allowed` is false) nothing of the module is executed.
pub fn checks(module: &ModuleSpec, part: Part, allowed: bool) -> impl Iterator<Item = &Check> {
    module.can_run_on_this_node.iter().filter(move |check| {
        check.kind.is_admission() == (part == Part::Admission) && (allowed || !is_command(check))
    })
}

/// Whether the module itself is asked, as the last of a part's answers. Where gate 1 refuses (`allowed` is false) it is not.
pub fn asks_plugin(module: &ModuleSpec, part: Part, allowed: bool) -> bool {
    module.runtime.is_plugin() && part == Part::Lasting && allowed
}

fn is_command(check: &Check) -> bool {
    matches!(check.kind, CheckKind::Command(_))
}

/// Gate 1: the node's own config file. `deny` wins.
pub fn local_config(module: &ModuleName, here: &Here) -> GateOutcome {
    let name = module.as_str();
    let matches = |list: &[String]| list.iter().any(|glob| glob_matches(glob, name));
    if matches(&here.deny) {
        let list = here.deny.join(", ");
        return GateOutcome::refuse(format!(
            "module {name:?} is in this node's [modules] deny list ({list})"
        ));
    }
    if here.allow.is_empty() || matches(&here.allow) {
        return GateOutcome::pass("");
    }
    let list = here.allow.join(", ");
    GateOutcome::refuse(format!("module {name:?} is not in this node's [modules] allow list ({list})"))
}

/// Gate 2: the bucket's rules.
pub fn node_list_rules(rules: &CompiledRules, here: &Here) -> GateOutcome {
    match rules.check(&here.hostname, &here.labels) {
        Ok(reason) => GateOutcome::pass(&reason),
        Err(reason) => GateOutcome::refuse(reason),
    }
}

/// Gate 3: what follows from the machine's answers. `allowed` says whether gate 1 passes.
pub fn can_run(module: &ModuleSpec, allowed: bool, asked: Asked<'_>) -> GateOutcome {
    // Another version may have registered it.
    if let Runtime::Builtin(name) = &module.runtime
        && !Runtime::BUILTINS.contains(&name.as_str())
    {
        return GateOutcome::refuse(format!(
            "this node's agent cannot run modules of runtime {}",
            module.runtime
        ));
    }
    if let Some(lacking) = lacking(module, allowed, asked) {
        return lacking;
    }
    let lasting = of_part(module, Part::Lasting, allowed, asked);
    let admission = if asked.running {
        GateOutcome::pass("") // it takes itself what these look at
    } else {
        of_part(module, Part::Admission, allowed, asked)
    };
    let outcome = both(lasting, admission);
    let executes = module.runtime.is_plugin() || module.can_run_on_this_node.iter().any(is_command);
    if outcome.pass == Some(true) && executes && !allowed {
        return GateOutcome::unknown("not asked: refused by local_config");
    }
    outcome
}

/// What gate 3 says while the module's artifact is not here: nothing of the module is asked. What runs, runs on.
fn lacking(module: &ModuleSpec, allowed: bool, asked: Asked<'_>) -> Option<GateOutcome> {
    let reason = match asked.equipment {
        Equipment::Complete => return None,
        Equipment::NeverPushed => format!(
            "module {0}@{1} uses ${{artifact}} and none was pushed for it yet: sheaf module push {0}@{1} PATH",
            module.name, module.version
        ),
        Equipment::Fetching(digest, percent) => {
            format!("artifact {} is being fetched, {percent} %", digest.short())
        }
        Equipment::Failed(digest, why) => format!("artifact {} is not here: {why}", digest.short()),
    };
    Some(match (allowed, asked.running) {
        (false, _) => GateOutcome::unknown("not asked: refused by local_config"),
        (true, true) => GateOutcome::unknown(format!("{reason}; what runs, runs on")),
        (true, false) => GateOutcome::refuse(reason),
    })
}

fn of_part(module: &ModuleSpec, part: Part, allowed: bool, asked: Asked<'_>) -> GateOutcome {
    let answer = match part {
        Part::Lasting => asked.lasting,
        Part::Admission => asked.admission,
    };
    if checks(module, part, allowed).next().is_none() && !asks_plugin(module, part, allowed) {
        return GateOutcome::pass("");
    }
    match answer {
        None => GateOutcome::unknown("not answered yet"),
        Some(Answer::Yes) => GateOutcome::pass(""),
        Some(Answer::No(reason)) => GateOutcome::refuse(reason.as_str()),
        Some(Answer::Unclear(reason)) if asked.running && asked.unclear < UNCLEAR_REFUSES => {
            GateOutcome::unknown(format!(
                "{reason} (unclear {} of {UNCLEAR_REFUSES} times in a row; it runs on)",
                asked.unclear.max(1)
            ))
        }
        Some(Answer::Unclear(reason)) => GateOutcome::refuse(reason.as_str()),
    }
}

/// Both must pass; a refusal outweighs what is unknown, and every reason is kept.
fn both(a: GateOutcome, b: GateOutcome) -> GateOutcome {
    match (a.pass, b.pass) {
        (Some(true), _) => b,
        (_, Some(true)) => a,
        (Some(false), Some(false)) => GateOutcome::refuse(format!("{}; {}", a.reason, b.reason)),
        (Some(false), None) | (None, None) => a,
        (None, Some(false)) => b,
    }
}

/// A node's verdict on one bucket, with all three gates.
///
/// `second` is what [`node_list_rules`] says by the bucket's rules; `revision` is the one of `bucket`; a `module` that is not
/// known here is waited for, not refused.
pub fn evaluate(
    bucket: &BucketSpec,
    revision: Revision,
    second: GateOutcome,
    module: Option<&ModuleSpec>,
    here: &Here,
    asked: Asked<'_>,
) -> Verdict {
    let local = local_config(&bucket.module.name, here);
    let allowed = local.pass == Some(true);
    let third = match module {
        Some(module) => can_run(module, allowed, asked),
        None => GateOutcome::unknown(format!("module {} is not known on this node yet", bucket.module)),
    };
    Verdict {
        bucket: bucket.name.clone(),
        revision,
        module: bucket.module.clone(),
        gates: [local, second, third],
    }
}

#[cfg(test)]
mod tests;
