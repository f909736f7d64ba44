//! The way back: documents as values and as YAML, which read back as what they were made from.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    BackendSpec, Breaker, BucketSpec, Bytes, Call, Check, CheckKind, Cores, Exec, Frequency, JobSpec,
    LifeCycleCall, Limits, Mail, ModuleSpec, OnNodeLost, Placement, Restart, Retry, Revision, Runtime,
    SecretName, SinkExec, SinkFilter, SinkSpec, SinkTarget, SpanRange, Stop, Subtasks, Template, Webhook,
};

/// The document of a bucket, its fields in the documented order. `name`, `type`, `module` and `multi_node` are
/// always there, other fields at their defaults are left out, so `suspended` is there only if it is.
pub fn bucket_value(spec: &BucketSpec, suspended: bool, revision: Option<Revision>) -> Value {
    let mut fields = Writer::of("Bucket");
    fields.put("name", spec.name.as_str());
    fields.put("type", spec.kind.as_str());
    fields.put("module", spec.module.to_string());
    fields.put("multi_node", spec.multi_node);
    fields.list("node_list_rules", spec.node_list_rules.texts());
    fields.some("config", Some(spec.config.value()).filter(|config| config != &json!({})));
    fields.some("suspended", suspended.then_some(true));
    fields.some("poll_frequency", spec.poll_frequency.map(|every| every.to_string()));
    fields.some("placement", (spec.placement != Placement::default()).then(|| spec.placement.to_string()));
    fields.some(
        "on_node_lost",
        (spec.on_node_lost != OnNodeLost::default()).then(|| spec.on_node_lost.as_str()),
    );
    fields.some("max_parallel", spec.max_parallel);
    fields.map("labels", spec.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect());
    fields.some("owner", spec.owner.clone());
    fields.some("revision", revision.map(|revision| revision.0));
    fields.0.into()
}

/// The document of a module, its fields in the documented order. `name`, `version` and `runtime` are always there,
/// other fields at their defaults are left out.
pub fn module_value(spec: &ModuleSpec) -> Value {
    let mut fields = Writer::of("Module");
    fields.put("name", spec.name.as_str());
    fields.put("version", spec.version.as_str());
    fields.put("runtime", spec.runtime.to_string());
    fields.some("worker", (spec.runtime == Runtime::Worker).then_some(true));
    fields.some("supports_multi_node", (!spec.supports_multi_node).then_some(false));
    fields.list("can_run_on_this_node", spec.can_run_on_this_node.iter().map(check).collect());
    fields.some("exec", spec.exec.as_ref().map(exec));
    fields.map("files", spec.files.iter().map(|(name, text)| (name.to_string(), text_of(text))).collect());
    fields.some("stop", (spec.stop != Stop::default()).then(|| stop(&spec.stop)));
    fields.some("restart", (spec.restart != Restart::default()).then(|| restart(&spec.restart)));
    fields.some("config_schema", spec.config_schema.as_ref().map(crate::Json::value));
    fields.some("limits", (spec.limits != Limits::default()).then(|| limits(&spec.limits)));
    fields.some("user", spec.user.clone());
    fields.map("life_cycle", life_cycle(&spec.life_cycle));
    fields.list("secrets", spec.secrets.iter().map(text_of).collect());
    fields.0.into()
}

/// The document of a job, its fields in the documented order, those at their defaults left out, and the id of the request,
/// which is no part of what the job is. A spec has no items: whoever applies the document again has them in the file `items`.
pub fn job_value(spec: &JobSpec, items: &str) -> Value {
    let plain = JobSpec::new(spec.name.clone(), spec.module.clone(), spec.subtasks);
    let mut fields = Writer::of("Job");
    fields.put("name", spec.name.as_str());
    fields.put("module", spec.module.to_string());
    fields.put(
        "subtasks",
        match spec.subtasks {
            Subtasks::Array(range) => json!({"array": range.to_string()}),
            Subtasks::Items => json!({"file": items}),
        },
    );
    fields.some("priority", (spec.priority != plain.priority).then_some(spec.priority));
    fields.some("max_running", spec.max_running);
    fields.some("retry", (spec.retry != plain.retry).then(|| retry(&spec.retry)));
    fields.some("timeout", spec.timeout.map(|timeout| timeout.to_string()));
    fields.list("node_list_rules", spec.node_list_rules.texts());
    fields.list("backends", spec.backends.iter().map(|name| json!(name.as_str())).collect());
    fields.list("after", spec.after.iter().map(|name| json!(name.as_str())).collect());
    fields.map("labels", spec.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect());
    fields.some("owner", spec.owner.clone());
    fields.0.into()
}

/// The document of a backend. Fields at their defaults are left out.
pub fn backend_value(spec: &BackendSpec) -> Value {
    let mut fields = Writer::of("Backend");
    fields.put("name", spec.name.as_str());
    fields.some("max_running", spec.max_running);
    fields.some("rate", spec.rate.map(|rate| rate.to_string()));
    let Breaker { failures, pause_min: min, pause_max: max } = spec.breaker;
    let breaker = json!({"failures": failures, "pause": SpanRange { min, max }.to_string()});
    fields.some("breaker", (spec.breaker != Breaker::default()).then_some(breaker));
    fields.some(
        "config",
        Some(spec.config.value()).filter(|it| it.as_object().is_some_and(|it| !it.is_empty())),
    );
    fields.map("labels", spec.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect());
    fields.some("owner", spec.owner.clone());
    fields.0.into()
}

/// The document of a sink. What a target has is written whole, as its defaults are those of its kind.
pub fn sink_value(spec: &SinkSpec) -> Value {
    let mut fields = Writer::of("Sink");
    fields.put("name", spec.name.as_str());
    fields.put(spec.target.as_str(), target(&spec.target));
    let SinkFilter { kinds, subjects, nodes } = &spec.filter;
    let mut filter = Writer::default();
    for (name, globs) in [("kinds", kinds), ("subjects", subjects), ("nodes", nodes)] {
        filter.list(name, globs.iter().map(|glob| json!(glob)).collect());
    }
    fields.map("filter", filter.0);
    fields.some("suspended", spec.suspended.then_some(true));
    fields.map("labels", spec.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect());
    fields.some("owner", spec.owner.clone());
    fields.0.into()
}

fn target(target: &SinkTarget) -> Value {
    let secret = |name: &SecretName| format!("${{secret.{name}}}");
    let mut fields = Writer::default();
    match target {
        SinkTarget::Webhook(Webhook { url, secret: key, timeout, batch, ca }) => {
            fields.put("url", url.to_string());
            fields.some("secret", key.as_ref().map(secret));
            fields.put("timeout", timeout.to_string());
            fields.put("batch", *batch);
            fields.some("ca", ca.clone());
        }
        SinkTarget::Mail(mail) => {
            let Mail { server, security, user, password, from, to, digest, timeout, ca } = mail;
            fields.put("server", server.as_str());
            fields.put("security", security.as_str());
            fields.some("user", user.clone());
            fields.some("password", password.as_ref().map(secret));
            fields.put("from", from.as_str());
            fields.put("to", json!(to));
            fields.put("digest", digest.to_string());
            fields.put("timeout", timeout.to_string());
            fields.some("ca", ca.clone());
        }
        SinkTarget::Exec(SinkExec { command, args, timeout, batch }) => {
            fields.put("command", command.as_str());
            fields.list("args", args.iter().map(|arg| json!(arg)).collect());
            fields.put("timeout", timeout.to_string());
            fields.put("batch", *batch);
        }
    }
    fields.0.into()
}

/// [`bucket_value`] as YAML, which can be applied again.
pub fn bucket_yaml(spec: &BucketSpec, suspended: bool, revision: Option<Revision>) -> String {
    yaml(&bucket_value(spec, suspended, revision))
}

/// [`module_value`] as YAML, which can be applied again.
pub fn module_yaml(spec: &ModuleSpec) -> String {
    yaml(&module_value(spec))
}

/// Any JSON value as YAML 1.2, in block style, with a line feed at its end.
pub fn yaml(value: &Value) -> String {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    // JSON is YAML too, should a value be beyond the writer.
    serde_saphyr::to_string_with_options(value, options).unwrap_or_else(|_| format!("{value}\n"))
}

fn text_of(template: &Template) -> Value {
    template.to_string().into()
}

fn check(check: &Check) -> Value {
    let looked_at = match &check.kind {
        CheckKind::File(text) | CheckKind::Dir(text) | CheckKind::Env(text) | CheckKind::Label(text) => {
            text_of(text)
        }
        CheckKind::MemoryAvailable(size) | CheckKind::DiskAvailable(size) => bytes(*size),
        CheckKind::PortFree(port) => number_or_text(port.to_string()),
        CheckKind::Command(command) => command.iter().map(text_of).collect(),
    };
    let mut fields = Writer::default();
    fields.put(check.kind.as_str(), looked_at);
    fields.some("timeout", check.timeout.map(|timeout| timeout.to_string()));
    fields.0.into()
}

fn exec(exec: &Exec) -> Value {
    let mut fields = Writer::default();
    fields.put("command", text_of(&exec.command));
    fields.list("args", exec.args.iter().map(text_of).collect());
    fields.map("env", exec.env.iter().map(|(name, value)| (name.clone(), text_of(value))).collect());
    fields.0.into()
}

fn life_cycle(calls: &BTreeMap<Call, LifeCycleCall>) -> Map<String, Value> {
    let call = |it: &LifeCycleCall| {
        let mut fields = Writer::default();
        fields.list("command", it.command.iter().map(text_of).collect());
        fields.some("timeout", it.timeout.map(|timeout| timeout.to_string()));
        Value::from(fields.0)
    };
    calls.iter().map(|(name, it)| (name.as_str().to_owned(), call(it))).collect()
}

fn stop(stop: &Stop) -> Value {
    json!({"signal": stop.signal.as_str(), "grace": stop.grace.to_string()})
}

fn restart(restart: &Restart) -> Value {
    json!({
        "policy": restart.policy.as_str(),
        "backoff": SpanRange { min: restart.backoff_min, max: restart.backoff_max }.to_string(),
        "give_up_after": Frequency { count: restart.give_up_count, window: restart.give_up_window }.to_string(),
    })
}

fn retry(retry: &Retry) -> Value {
    let classes: Vec<&str> = retry.retry_on.iter().map(|class| class.as_str()).collect();
    json!({
        "max_attempts": retry.max_attempts,
        "backoff": SpanRange { min: retry.backoff_min, max: retry.backoff_max }.to_string(),
        "retry_on": classes,
    })
}

fn limits(limits: &Limits) -> Value {
    let mut fields = Writer::default();
    fields.some("memory", limits.memory.map(bytes));
    fields.some("cpu", limits.cpu_millis.map(|millis| number_or_text(Cores { millis }.to_string())));
    fields.some("open_files", limits.open_files);
    fields.some("processes", limits.processes);
    fields.0.into()
}

fn bytes(size: Bytes) -> Value {
    number_or_text(size.to_string())
}

/// A number where that says exactly the same, so that it needs no quotes.
fn number_or_text(text: String) -> Value {
    match serde_json::from_str::<serde_json::Number>(&text) {
        Ok(number) if number.to_string() == text => Value::Number(number),
        _ => Value::String(text),
    }
}

/// Fields in the order in which they are put.
#[derive(Default)]
struct Writer(Map<String, Value>);

impl Writer {
    fn of(kind: &str) -> Self {
        let mut fields = Self::default();
        fields.put("kind", kind);
        fields
    }

    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    fn list(&mut self, name: &str, values: Vec<impl Into<Value>>) {
        if !values.is_empty() {
            self.put(name, values);
        }
    }

    fn map(&mut self, name: &str, values: Map<String, Value>) {
        if !values.is_empty() {
            self.put(name, values);
        }
    }
}
