//! `kind: Module`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::bucket::object;
use super::reader::{
    Defects, Fields, Wrong, boolean, list, mapping, measure, parsed, string, template, whole, word,
    wrong_type,
};
use crate::measure::quoted;
use crate::{
    Bytes, Call, Check, CheckKind, Cores, Exec, FileName, Frequency, LifeCycleCall, Limits, ModuleName,
    ModuleSpec, ModuleVersion, Part, Restart, RestartWhen, Runtime, Signal, SpanRange, Stop, Template,
    TemplateSet,
};

/// Reads a module; none if name or version cannot be read. Fields with defects stay at their defaults.
pub(super) fn read(value: &Value, defects: &mut Defects) -> Option<ModuleSpec> {
    let mut fields = Fields::of(value, defects)?;
    fields.value("kind");
    let name = fields.required("name", "a name like flume", parsed(ModuleName::new));
    let version = fields.required(
        "version",
        "a version in quotes, like \"1.11.0\"; a version's content never changes",
        parsed(ModuleVersion::new),
    );
    let runtime = fields.get("runtime", parsed(read_runtime));
    let is_plugin = runtime == Some(Runtime::Plugin);
    let worker = fields.get("worker", |value, defects| {
        let worker = boolean(value, defects)?;
        if worker && !is_plugin {
            defects.push(crate::Defect::new("", "only a plugin is a worker", "runtime: plugin beside it"));
        }
        Some(worker)
    });
    let supports_multi_node = fields.get("supports_multi_node", boolean);
    // A check that cannot be read leaves one behind that always holds, so that paths count right.
    let always = || Some(Check { kind: CheckKind::MemoryAvailable(Bytes(0)), timeout: None });
    let checks = fields.get("can_run_on_this_node", list("checks", read_check, always));
    let exec = fields.get("exec", read_exec);
    let files = fields.get(
        "files",
        mapping(
            |key| Ok(FileName::new(key)?),
            template(TemplateSet::Confidential),
            || Some(Template::default()),
        ),
    );
    let stop = fields.get("stop", read_stop);
    let restart = fields.get("restart", read_restart);
    let config_schema = fields.get("config_schema", object);
    let limits = fields.get("limits", read_limits);
    let user = fields.get("user", string);
    let life_cycle = fields.get("life_cycle", read_life_cycle);
    let names = list("names of secrets", template(TemplateSet::SecretNames), || Some(Template::default()));
    let secrets = fields.get("secrets", names);
    fields.finish();

    let runtime = match runtime.unwrap_or(Runtime::Exec) {
        Runtime::Plugin if worker == Some(true) => Runtime::Worker,
        other => other,
    };
    let mut spec = ModuleSpec::new(name?, version?, runtime);
    spec.supports_multi_node = supports_multi_node.unwrap_or(spec.supports_multi_node);
    spec.can_run_on_this_node = checks.unwrap_or_default();
    spec.exec = exec;
    spec.files = files.unwrap_or_default();
    spec.stop = stop.unwrap_or_default();
    spec.restart = restart.unwrap_or_default();
    spec.config_schema = config_schema;
    spec.limits = limits.unwrap_or_default();
    spec.user = user;
    spec.life_cycle = life_cycle.unwrap_or_default();
    spec.secrets = secrets.unwrap_or_default();
    Some(spec)
}

fn read_life_cycle(value: &Value, defects: &mut Defects) -> Option<BTreeMap<Call, LifeCycleCall>> {
    let mut fields = Fields::of(value, defects)?;
    let mut calls = BTreeMap::new();
    for call in Call::IN_DOCUMENTS {
        let found = fields.get(call.as_str(), |value, defects| {
            let mut fields = Fields::of(value, defects)?;
            let command =
                fields.get("command", |value, defects| read_command(value, TemplateSet::Instance, defects));
            let timeout = fields.get("timeout", measure("a duration like 30s"));
            fields.finish();
            Some(LifeCycleCall { command: command.unwrap_or_default(), timeout })
        });
        calls.extend(found.map(|found| (call, found)));
    }
    fields.finish();
    Some(calls)
}

fn read_runtime(text: &str) -> Result<Runtime, Wrong> {
    match (text, text.strip_prefix("builtin:")) {
        ("exec", _) => Ok(Runtime::Exec),
        ("plugin", _) => Ok(Runtime::Plugin),
        (_, Some(name)) if !name.is_empty() => Ok(Runtime::Builtin(name.to_owned())),
        _ => Err(Wrong::new(format!("unknown runtime {}", quoted(text)), "exec or plugin")),
    }
}

/// One mapping per check: its kind with what is looked at, and maybe a timeout.
fn read_check(value: &Value, defects: &mut Defects) -> Option<Check> {
    let kinds = "file, dir, env, label, memory_available, disk_available, port_free, command";
    let set = template(TemplateSet::Check);
    let mut fields = Fields::of(value, defects)?;
    let timeout = fields.get("timeout", measure("a duration like 2s"));
    let mut found = Vec::new();
    let mut named = Vec::new();
    let mut note = |name: &'static str, fields: &mut Fields<'_>, kind: Option<CheckKind>| {
        if fields.value(name).is_some() {
            named.push(name);
        }
        found.extend(kind);
    };
    for (name, kind) in [
        ("file", CheckKind::File as fn(Template) -> CheckKind),
        ("dir", CheckKind::Dir),
        ("env", CheckKind::Env),
        ("label", CheckKind::Label),
    ] {
        let read = fields.get(name, set).map(kind);
        note(name, &mut fields, read);
    }
    for (name, kind) in [
        ("memory_available", CheckKind::MemoryAvailable as fn(Bytes) -> CheckKind),
        ("disk_available", CheckKind::DiskAvailable),
    ] {
        let read = fields.get(name, measure("a size like 512MiB")).map(kind);
        note(name, &mut fields, read);
    }
    let port = fields.get("port_free", read_port).map(CheckKind::PortFree);
    note("port_free", &mut fields, port);
    let command = fields
        .get("command", |value, defects| read_command(value, TemplateSet::Check, defects))
        .map(CheckKind::Command);
    note("command", &mut fields, command);
    match named.as_slice() {
        [] => fields.wrong("no check is named", format!("one of {kinds}")),
        [_] => {}
        [first, second, ..] => {
            let problem = format!("{first} and {second} are two checks");
            fields.wrong(problem, "one entry of the list for each");
        }
    }
    fields.finish();
    found.into_iter().next().map(|kind| Check { kind, timeout })
}

/// A number, or a template that becomes one.
fn read_port(value: &Value, defects: &mut Defects) -> Option<Template> {
    match value {
        Value::Number(number) => Some(Template(vec![Part::Text(number.to_string())])),
        Value::String(_) => template(TemplateSet::Check)(value, defects),
        other => {
            defects.push(wrong_type("a port", other));
            None
        }
    }
}

fn read_command(value: &Value, set: TemplateSet, defects: &mut Defects) -> Option<Vec<Template>> {
    if let Value::String(text) = value {
        let words: Vec<String> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
        let mut defect = wrong_type("a list of strings", value);
        defect.remedy = format!("[{}]", words.join(", ")).chars().take(200).collect();
        defects.push(defect);
        return None;
    }
    list("strings", template(set), || Some(Template::default()))(value, defects)
}

fn read_exec(value: &Value, defects: &mut Defects) -> Option<Exec> {
    let set = template(TemplateSet::Program);
    let mut fields = Fields::of(value, defects)?;
    let command = fields.required("command", "the program to run, like /opt/flume/bin/flume-ng", set);
    let args = fields.get("args", list("strings", set, || Some(Template::default())));
    let confidential = template(TemplateSet::Confidential);
    let env = fields.get("env", mapping(|key| Ok::<_, Wrong>(key.to_owned()), confidential, || None));
    fields.finish();
    Some(Exec { command: command?, args: args.unwrap_or_default(), env: env.unwrap_or_default() })
}

fn read_stop(value: &Value, defects: &mut Defects) -> Option<Stop> {
    let mut fields = Fields::of(value, defects)?;
    let signal = fields.get("signal", read_signal);
    let grace = fields.get("grace", measure("a duration like 10s"));
    fields.finish();
    let default = Stop::default();
    Some(Stop { signal: signal.unwrap_or(default.signal), grace: grace.unwrap_or(default.grace) })
}

/// The name of a signal; `SIGTERM` is what `TERM` is called elsewhere, so it is named in the remedy.
fn read_signal(value: &Value, defects: &mut Defects) -> Option<Signal> {
    let words = Signal::ALL.map(|signal| (signal.as_str(), signal));
    let meant = value.as_str().and_then(|text| text.strip_prefix("SIG")).unwrap_or_default();
    if words.iter().any(|(word, _)| *word == meant) {
        defects.push(crate::Defect::new(
            "",
            format!("unknown word \"SIG{meant}\""),
            format!("did you mean {meant}?"),
        ));
        return None;
    }
    word(&words)(value, defects)
}

fn read_restart(value: &Value, defects: &mut Defects) -> Option<Restart> {
    let mut fields = Fields::of(value, defects)?;
    let mut restart = Restart::default();
    let policies = [RestartWhen::Always, RestartWhen::OnFailure, RestartWhen::Never].map(|p| (p.as_str(), p));
    if let Some(policy) = fields.get("policy", word(&policies)) {
        restart.policy = policy;
    }
    if let Some(SpanRange { min, max }) = fields.get("backoff", measure("two durations like 1s..60s")) {
        (restart.backoff_min, restart.backoff_max) = (min, max);
    }
    if let Some(Frequency { count, window }) = fields.get("give_up_after", measure("a limit like 5 in 10m")) {
        (restart.give_up_count, restart.give_up_window) = (count, window);
    }
    fields.finish();
    Some(restart)
}

fn read_limits(value: &Value, defects: &mut Defects) -> Option<Limits> {
    let mut fields = Fields::of(value, defects)?;
    let limits = Limits {
        memory: fields.get("memory", measure("a size like 1GiB")),
        cpu_millis: fields
            .get("cpu", measure("a number of cores like 2 or 0.5"))
            .map(|cores: Cores| cores.millis),
        open_files: fields.get("open_files", whole),
        processes: fields.get("processes", whole),
    };
    fields.finish();
    Some(limits)
}
