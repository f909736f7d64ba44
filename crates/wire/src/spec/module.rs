//! A module's document.

use serde_json::{Map, Value};
use sheaf_model::document::Document;
use sheaf_model::{
    Check, CheckKind, Defect, Exec, Limits, ModuleSpec, Restart, RestartWhen, Runtime, Signal, Stop, Template,
};

use super::{Fields, answered, config, millis, no_spec, short, unknown_number};
use crate::ApiError;
use crate::proto::v1;
use crate::proto::v1::check::Kind;

/// The document that a message stands for. What only a message can get wrong goes to `defects`.
pub(super) fn value(module: v1::ModuleSpec, defects: &mut Vec<Defect>) -> Value {
    let document = format!("Module {}@{}", short(&module.name), short(&module.version));
    let schema =
        config::value("config_schema", module.config_schema, module.config_schema_json, &document, defects);
    let mut fields = Fields::new("Module");
    fields.put("name", module.name);
    fields.put_text("version", module.version);
    fields.put_text("runtime", module.runtime);
    if module.worker {
        fields.put("worker", true);
    }
    fields.put_some("supports_multi_node", module.supports_multi_node);
    if !module.can_run_on_this_node.is_empty() {
        let checks = module.can_run_on_this_node.into_iter().enumerate();
        let checks: Vec<Value> = checks.map(|(i, check)| check_value(i, check, &document, defects)).collect();
        fields.put("can_run_on_this_node", checks);
    }
    fields.put_some("exec", module.exec.map(exec_value));
    if !module.files.is_empty() {
        fields.put("files", texts(module.files));
    }
    fields.put_some("stop", module.stop.map(|stop| stop_value(&stop, &document, defects)));
    fields.put_some("restart", module.restart.map(|restart| restart_value(&restart, &document, defects)));
    fields.put_some("config_schema", schema);
    fields.put_some("limits", module.limits.and_then(limits_value));
    fields.put_some("user", module.user);
    if !module.life_cycle.is_empty() {
        let calls = module.life_cycle.into_iter().map(|(name, call)| (name, life_cycle_value(call)));
        fields.put("life_cycle", Value::Object(calls.collect()));
    }
    if !module.secrets.is_empty() {
        fields.put("secrets", module.secrets);
    }
    Value::Object(fields.0)
}

fn life_cycle_value(call: v1::LifeCycleCall) -> Value {
    let mut fields = Map::new();
    if !call.command.is_empty() {
        fields.insert("command".to_owned(), call.command.into());
    }
    if let Some(timeout) = call.timeout_ms {
        fields.insert("timeout".to_owned(), millis(timeout).into());
    }
    Value::Object(fields)
}

fn texts(map: impl IntoIterator<Item = (String, String)>) -> Value {
    Value::Object(map.into_iter().map(|(key, value)| (key, Value::String(value))).collect())
}

fn check_value(index: usize, check: v1::Check, document: &str, defects: &mut Vec<Defect>) -> Value {
    let mut fields = Map::new();
    let (name, value) = match check.kind {
        Some(Kind::File(path)) => ("file", path.into()),
        Some(Kind::Dir(path)) => ("dir", path.into()),
        Some(Kind::Env(name)) => ("env", name.into()),
        Some(Kind::Label(glob)) => ("label", glob.into()),
        Some(Kind::MemoryAvailable(bytes)) => ("memory_available", bytes.to_string().into()),
        Some(Kind::DiskAvailable(bytes)) => ("disk_available", bytes.to_string().into()),
        Some(Kind::PortFree(port)) => ("port_free", port.into()),
        Some(Kind::Command(command)) => ("command", command.args.into()),
        None => {
            let path = format!("can_run_on_this_node[{index}]");
            let remedy = "one of file, dir, env, label, memory_available, disk_available, port_free, command";
            defects.push(Defect::new(path, "a check of nothing", remedy).of(document));
            // Keeps the indexes of the others.
            ("file", "/".into())
        }
    };
    fields.insert(name.to_owned(), value);
    if let Some(timeout) = check.timeout_ms {
        fields.insert("timeout".to_owned(), millis(timeout).into());
    }
    Value::Object(fields)
}

fn exec_value(exec: v1::Exec) -> Value {
    let mut fields = Map::new();
    fields.insert("command".to_owned(), exec.command.into());
    if !exec.args.is_empty() {
        fields.insert("args".to_owned(), exec.args.into());
    }
    if !exec.env.is_empty() {
        fields.insert("env".to_owned(), texts(exec.env));
    }
    Value::Object(fields)
}

fn stop_value(stop: &v1::Stop, document: &str, defects: &mut Vec<Defect>) -> Value {
    let mut fields = Map::new();
    match v1::Signal::try_from(stop.signal) {
        Ok(v1::Signal::Unspecified) => {}
        Ok(signal) => {
            let word = signal.as_str_name().trim_start_matches("SIGNAL_");
            fields.insert("signal".to_owned(), word.into());
        }
        Err(_) => {
            let known: Vec<_> =
                (1..).zip(Signal::ALL).map(|(n, s)| format!("{n} ({})", s.as_str())).collect();
            defects.push(unknown_number("stop.signal", stop.signal, known.join(", "), document));
        }
    }
    if let Some(grace) = stop.grace_ms {
        fields.insert("grace".to_owned(), millis(grace).into());
    }
    Value::Object(fields)
}

fn restart_value(restart: &v1::Restart, document: &str, defects: &mut Vec<Defect>) -> Value {
    let default = Restart::default();
    let mut fields = Map::new();
    let policy = match v1::RestartPolicy::try_from(restart.policy) {
        Ok(v1::RestartPolicy::Unspecified) => None,
        Ok(v1::RestartPolicy::Always) => Some(RestartWhen::Always),
        Ok(v1::RestartPolicy::OnFailure) => Some(RestartWhen::OnFailure),
        Ok(v1::RestartPolicy::Never) => Some(RestartWhen::Never),
        Err(_) => {
            let known = "1 (always), 2 (on_failure) or 3 (never)";
            defects.push(unknown_number("restart.policy", restart.policy, known, document));
            None
        }
    };
    if let Some(policy) = policy {
        fields.insert("policy".to_owned(), policy.as_str().into());
    }
    if restart.backoff_min_ms.is_some() || restart.backoff_max_ms.is_some() {
        let min = restart.backoff_min_ms.unwrap_or(default.backoff_min.0);
        let max = restart.backoff_max_ms.unwrap_or(default.backoff_max.0.max(min));
        fields.insert("backoff".to_owned(), format!("{}..{}", millis(min), millis(max)).into());
    }
    if restart.give_up_count.is_some() || restart.give_up_window_ms.is_some() {
        let count = restart.give_up_count.unwrap_or(default.give_up_count);
        let window = restart.give_up_window_ms.unwrap_or(default.give_up_window.0);
        fields.insert("give_up_after".to_owned(), format!("{count} in {}", millis(window)).into());
    }
    Value::Object(fields)
}

fn limits_value(limits: v1::Limits) -> Option<Value> {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    put("memory", limits.memory.map(|bytes| bytes.to_string().into()));
    put("cpu", limits.cpu_millis.map(cores));
    put("open_files", limits.open_files.map(Into::into));
    put("processes", limits.processes.map(Into::into));
    (!fields.is_empty()).then_some(Value::Object(fields))
}

/// Thousandths of cores as documents write cores.
fn cores(millis: u64) -> Value {
    if millis.is_multiple_of(1000) { (millis / 1000).into() } else { (millis as f64 / 1000.0).into() }
}

/// The spec of an answer.
pub(crate) fn module_spec(module: Option<v1::ModuleSpec>) -> Result<ModuleSpec, ApiError> {
    let mut defects = Vec::new();
    let value = value(module.ok_or_else(no_spec)?, &mut defects);
    match answered(&value, defects)? {
        Document::Module(spec) => Ok(*spec),
        _ => Err(no_spec()),
    }
}

/// As our clients send it: the schema as text, which is exact.
pub(crate) fn module_request(spec: ModuleSpec) -> v1::ModuleSpec {
    let config_schema_json = spec.config_schema.as_ref().map(|schema| schema.as_str().to_owned());
    v1::ModuleSpec { config_schema_json, ..message(spec) }
}

/// As the server answers it: the schema as a message, and as text only if that is not exact.
pub(crate) fn module_answer(spec: ModuleSpec) -> v1::ModuleSpec {
    let (config_schema, config_schema_json) =
        spec.config_schema.as_ref().map(config::answer).unwrap_or_default();
    v1::ModuleSpec { config_schema, config_schema_json, ..message(spec) }
}

fn message(spec: ModuleSpec) -> v1::ModuleSpec {
    v1::ModuleSpec {
        name: spec.name.as_str().to_owned(),
        version: spec.version.as_str().to_owned(),
        runtime: spec.runtime.to_string(),
        worker: spec.runtime == Runtime::Worker,
        supports_multi_node: Some(spec.supports_multi_node),
        can_run_on_this_node: spec.can_run_on_this_node.into_iter().map(check_message).collect(),
        exec: spec.exec.map(exec_message),
        files: spec
            .files
            .into_iter()
            .map(|(name, text)| (name.as_str().to_owned(), text.to_string()))
            .collect(),
        stop: Some(stop_message(spec.stop)),
        restart: Some(restart_message(spec.restart)),
        config_schema: None,
        config_schema_json: None,
        limits: (spec.limits != Limits::default()).then_some(v1::Limits {
            memory: spec.limits.memory.map(|bytes| bytes.0),
            cpu_millis: spec.limits.cpu_millis,
            open_files: spec.limits.open_files,
            processes: spec.limits.processes,
        }),
        user: spec.user,
        life_cycle: (spec.life_cycle.into_iter())
            .map(|(call, it)| {
                let timeout_ms = it.timeout.map(|span| span.0);
                (call.as_str().to_owned(), v1::LifeCycleCall { command: written(&it.command), timeout_ms })
            })
            .collect(),
        secrets: written(&spec.secrets),
    }
}

fn check_message(check: Check) -> v1::Check {
    let kind = match check.kind {
        CheckKind::File(path) => Kind::File(path.to_string()),
        CheckKind::Dir(path) => Kind::Dir(path.to_string()),
        CheckKind::Env(name) => Kind::Env(name.to_string()),
        CheckKind::Label(glob) => Kind::Label(glob.to_string()),
        CheckKind::MemoryAvailable(bytes) => Kind::MemoryAvailable(bytes.0),
        CheckKind::DiskAvailable(bytes) => Kind::DiskAvailable(bytes.0),
        CheckKind::PortFree(port) => Kind::PortFree(port.to_string()),
        CheckKind::Command(args) => Kind::Command(v1::Command { args: written(&args) }),
    };
    v1::Check { kind: Some(kind), timeout_ms: check.timeout.map(|span| span.0) }
}

fn exec_message(exec: Exec) -> v1::Exec {
    v1::Exec {
        command: exec.command.to_string(),
        args: written(&exec.args),
        env: exec.env.into_iter().map(|(name, text)| (name, text.to_string())).collect(),
    }
}

fn written(templates: &[Template]) -> Vec<String> {
    templates.iter().map(ToString::to_string).collect()
}

fn stop_message(stop: Stop) -> v1::Stop {
    let signal = match stop.signal {
        Signal::Term => v1::Signal::Term,
        Signal::Int => v1::Signal::Int,
        Signal::Hup => v1::Signal::Hup,
        Signal::Quit => v1::Signal::Quit,
        Signal::Usr1 => v1::Signal::Usr1,
        Signal::Usr2 => v1::Signal::Usr2,
        Signal::Kill => v1::Signal::Kill,
    };
    v1::Stop { signal: signal.into(), grace_ms: Some(stop.grace.0) }
}

fn restart_message(restart: Restart) -> v1::Restart {
    let policy = match restart.policy {
        RestartWhen::Always => v1::RestartPolicy::Always,
        RestartWhen::OnFailure => v1::RestartPolicy::OnFailure,
        RestartWhen::Never => v1::RestartPolicy::Never,
    };
    v1::Restart {
        policy: policy.into(),
        backoff_min_ms: Some(restart.backoff_min.0),
        backoff_max_ms: Some(restart.backoff_max.0),
        give_up_count: Some(restart.give_up_count),
        give_up_window_ms: Some(restart.give_up_window.0),
    }
}
