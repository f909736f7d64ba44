//! What is wrong with a module whose fields are each of the right type, whichever way it came here.

use std::collections::BTreeMap;

use super::DEFECTS_MAX;
use crate::measure::quoted;
use crate::{
    Call, Check, CheckKind, Defect, Exec, FileName, LifeCycleCall, Limits, ModuleSpec, Restart, Runtime,
    SecretName, Span, Template, TemplateName, TemplateSet,
};

/// The shortest first wait before a restart: nothing restarts in a tight loop.
const BACKOFF_LEAST: Span = Span::millis(10);
/// Set by Sheaf for every instance or subtask; a module's own value would never be seen.
const RESERVED_ENV: [&str; 17] = [
    "SHEAF_BACKEND",
    "SHEAF_BACKEND_CONFIG",
    "SHEAF_NODE",
    "SHEAF_BUCKET",
    "SHEAF_EPOCH",
    "SHEAF_REVISION",
    "SHEAF_DIR",
    "SHEAF_ARTIFACT",
    "SHEAF_JOB",
    "SHEAF_SUBTASK",
    "SHEAF_ATTEMPT",
    "SHEAF_ITEM",
    "SHEAF_MODULE_SOCKET",
    "SHEAF_MODULE_PROTOCOL",
    "SHEAF_CONTEXT_SOCKET",
    "SHEAF_PID",
    "SHEAF_CHANGE",
];

/// What is wrong with `spec` as a whole: missing or unknown parts, amounts that make no sense.
pub fn module_defects(spec: &ModuleSpec) -> Vec<Defect> {
    let mut found = Found::default();
    match (&spec.runtime, &spec.exec) {
        (runtime @ (Runtime::Exec | Runtime::Plugin | Runtime::Worker), None) => {
            let problem = format!("runtime {runtime} needs to know what to execute");
            found.wrong("exec", problem, "exec: {command: …}");
        }
        (Runtime::Exec, Some(exec)) => found.exec(exec, &spec.files),
        (Runtime::Plugin, Some(exec)) => {
            found.exec(exec, &spec.files);
            found.of_no_bucket(exec, &spec.files);
        }
        (Runtime::Worker, Some(exec)) => {
            found.exec(exec, &spec.files);
            found.of_no_bucket(exec, &spec.files);
            found.of_no_subtask(exec, &spec.files);
        }
        (runtime @ Runtime::Builtin(name), exec) => found.builtin(spec, runtime, name, exec.is_some()),
    }
    for (index, check) in spec.can_run_on_this_node.iter().enumerate() {
        found.check(&format!("can_run_on_this_node[{index}]"), check);
    }
    for (name, template) in &spec.files {
        found.template(&format!("files.{name}"), template, TemplateSet::Confidential, Some(&spec.files));
    }
    if spec.is_for_subtasks() && spec.is_for_buckets() {
        let problem = "some of it names the bucket, and some the subtask: nothing has both";
        found.wrong("exec", problem, "two modules: one for buckets, one for jobs");
    }
    for (index, entry) in spec.secrets.iter().enumerate() {
        found.secret(&format!("secrets[{index}]"), entry);
    }
    for (call, it) in &spec.life_cycle {
        found.life_cycle(spec, *call, it);
    }
    found.restart(&spec.restart);
    found.limits(&spec.limits);
    if spec.config_schema.as_ref().is_some_and(|schema| !schema.as_str().starts_with('{')) {
        found.wrong("config_schema", "expected a mapping", "a JSON Schema, like {type: object}");
    }
    if let Some(user) = &spec.user {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '$');
        if user.is_empty() || user.len() > 32 || user.starts_with('-') || !user.chars().all(plain) {
            found.wrong(
                "user",
                format!("{} is no name of a user", quoted(user)),
                "a user of the machine, like flume",
            );
        }
    }
    found.0
}

#[derive(Default)]
struct Found(Vec<Defect>);

impl Found {
    fn wrong(&mut self, path: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        if !self.is_enough() {
            self.0.push(Defect::new(path, problem, remedy));
        }
    }

    /// Whether so much is wrong that nobody would read more of it.
    fn is_enough(&self) -> bool {
        self.0.len() > DEFECTS_MAX
    }

    fn exec(&mut self, exec: &Exec, files: &BTreeMap<FileName, Template>) {
        if exec.command.literal().is_some_and(|text| text.trim().is_empty()) {
            self.wrong(
                "exec.command",
                "the command is empty",
                "the program to run, like /opt/flume/bin/flume-ng",
            );
        }
        self.argument("exec.command", &exec.command, TemplateSet::Program, Some(files));
        for (index, argument) in exec.args.iter().enumerate() {
            self.argument(&format!("exec.args[{index}]"), argument, TemplateSet::Program, Some(files));
        }
        for (name, value) in &exec.env {
            let path = format!("exec.env.{}", super::reader::segment(name)).replace(".[", "[");
            if !is_env_name(name) {
                let problem = format!("{} is no name of a variable", quoted(name));
                self.wrong(&path, problem, "letters, digits and _, no digit first");
            } else if RESERVED_ENV.contains(&name.as_str()) {
                self.wrong(&path, format!("{name} is set by Sheaf itself"), "another name");
            }
            self.argument(&path, value, TemplateSet::Confidential, Some(files));
        }
    }

    /// What is part of the binary brings its own program.
    fn builtin(&mut self, spec: &ModuleSpec, runtime: &Runtime, name: &str, has_exec: bool) {
        if !Runtime::BUILTINS.contains(&name) {
            let known = Runtime::BUILTINS.map(|known| format!("builtin:{known}")).join(", ");
            let problem = format!("there is no {runtime} in this version");
            self.wrong("runtime", problem, format!("exec, plugin or {known}"));
            return;
        }
        if has_exec {
            let problem = format!("{runtime} is part of the binary: there is nothing else to execute");
            self.wrong("exec", problem, "nothing of it; what it does stands in the backend's config");
        }
        if !spec.files.is_empty() {
            self.wrong(
                "files",
                format!("{runtime} reads no files"),
                "what it does stands in the backend's config",
            );
        }
    }

    /// The name of a secret, or a template that gives one for each bucket.
    fn secret(&mut self, path: &str, entry: &Template) {
        if let Some(Err(error)) = entry.literal().map(SecretName::new) {
            self.wrong(path, error.problem, error.remedy);
        }
        self.argument(path, entry, TemplateSet::SecretNames, None);
    }

    /// One process of a plugin answers gate 3 for all buckets, so its command line can be of none.
    fn of_no_bucket(&mut self, exec: &Exec, files: &BTreeMap<FileName, Template>) {
        let problem = "a plugin is started for gate 3 without any bucket";
        let remedy = "the text without ${bucket.…}: the plugin is told its bucket by OnNewSource";
        self.none_of(exec, files, Template::uses_bucket, (problem, remedy));
    }

    /// One process of a worker takes many subtasks.
    fn of_no_subtask(&mut self, exec: &Exec, files: &BTreeMap<FileName, Template>) {
        let problem = "a worker is started without any subtask";
        let remedy =
            "the text without ${item}, ${job}, ${subtask} and ${attempt}: the worker is told them by Work";
        self.none_of(exec, files, Template::uses_subtask, (problem, remedy));
    }

    fn none_of(
        &mut self,
        exec: &Exec,
        files: &BTreeMap<FileName, Template>,
        uses: impl Fn(&Template) -> bool,
        (problem, remedy): (&str, &str),
    ) {
        let args = exec.args.iter().enumerate().map(|(index, arg)| (format!("exec.args[{index}]"), arg));
        let env = exec.env.iter().map(|(name, value)| {
            (format!("exec.env.{}", super::reader::segment(name)).replace(".[", "["), value)
        });
        let files = files.iter().map(|(name, text)| (format!("files.{name}"), text));
        let all =
            std::iter::once(("exec.command".to_owned(), &exec.command)).chain(args).chain(env).chain(files);
        for (path, _) in all.filter(|(_, template)| uses(template)) {
            self.wrong(&path, problem, remedy);
        }
    }

    /// Names that have a value here, and files that there are.
    fn template(
        &mut self,
        path: &str,
        template: &Template,
        set: TemplateSet,
        files: Option<&BTreeMap<FileName, Template>>,
    ) {
        if let Some((problem, remedy)) = template.misplaced(set) {
            self.wrong(path, problem, remedy);
        }
        let Some(files) = files else { return };
        for name in template.names() {
            let TemplateName::File(file) = name else { continue };
            if self.is_enough() {
                return;
            }
            if !files.contains_key(file) {
                let remedy = instead_of(file, files);
                self.wrong(path, format!("${{{name}}} is no file of this module"), remedy);
            }
        }
    }

    /// A template that is handed to a program, where a zero byte would end it.
    fn argument(
        &mut self,
        path: &str,
        template: &Template,
        set: TemplateSet,
        files: Option<&BTreeMap<FileName, Template>>,
    ) {
        if template.to_string().contains('\0') {
            self.wrong(path, "there is a zero byte in it", "the text without it");
        }
        self.template(path, template, set, files);
    }

    fn check(&mut self, path: &str, check: &Check) {
        if check.timeout.is_some_and(|timeout| timeout.0 == 0) {
            self.wrong(&format!("{path}.timeout"), "no check ends in no time", "a time like 2s");
        }
        let path = format!("{path}.{}", check.kind.as_str());
        for (index, template) in check.kind.templates().into_iter().enumerate() {
            let path = match &check.kind {
                CheckKind::Command(_) => format!("{path}[{index}]"),
                _ => path.clone(),
            };
            self.argument(&path, template, TemplateSet::Check, None);
        }
        match &check.kind {
            CheckKind::File(place) | CheckKind::Dir(place) => {
                if place.0.is_empty() || place.prefix().is_some_and(|text| !text.starts_with('/')) {
                    let problem = format!("{} is no absolute path", quoted(&place.to_string()));
                    self.wrong(&path, problem, "a path that begins with /");
                }
            }
            CheckKind::Env(wanted) => {
                let name = wanted.prefix().unwrap_or_default().split('=').next().unwrap_or_default();
                let whole =
                    wanted.literal().is_some() || wanted.prefix().is_some_and(|text| text.contains('='));
                if whole && !is_env_name(name) {
                    let problem = format!("{} is no name of a variable", quoted(name));
                    self.wrong(&path, problem, "NAME or NAME=value");
                }
            }
            CheckKind::Label(glob) => {
                if glob.0.is_empty() {
                    self.wrong(&path, "the label is empty", "a label or a glob, like gpu or zone=*");
                }
            }
            CheckKind::PortFree(port) => {
                let literal = port.literal();
                let is_port = |text: &str| {
                    text.bytes().all(|b| b.is_ascii_digit()) && text.parse().is_ok_and(|port: u16| port > 0)
                };
                if literal.is_some_and(|text| !is_port(text)) {
                    let problem = format!("{} is no port", quoted(literal.unwrap_or_default()));
                    self.wrong(&path, problem, "from 1 to 65535, or a template like ${bucket.config.port}");
                }
            }
            CheckKind::Command(command) => {
                let program = command.first().and_then(Template::literal);
                if command.is_empty() || program.is_some_and(|text| text.trim().is_empty()) {
                    self.wrong(
                        &path,
                        "the command is empty",
                        "a program and its arguments, like [\"/bin/true\"]",
                    );
                }
            }
            CheckKind::MemoryAvailable(_) | CheckKind::DiskAvailable(_) => {}
        }
    }

    fn life_cycle(&mut self, spec: &ModuleSpec, call: Call, it: &LifeCycleCall) {
        let path = format!("life_cycle.{}", call.as_str());
        let command = format!("{path}.command");
        let program = it.command.first().and_then(Template::literal);
        match (&spec.runtime, it.command.is_empty()) {
            (Runtime::Worker | Runtime::Builtin(_), _) => {
                let remedy = "nothing of it; it is told of subtasks by Work";
                self.wrong(&path, "a worker has no bucket whose life it could be told", remedy);
            }
            (Runtime::Plugin, false) => {
                let problem = format!("a plugin is called itself, by {call}");
                self.wrong(&command, problem, "only its timeout, or runtime: exec");
            }
            (Runtime::Plugin, true) if it.timeout.is_none() => {
                self.wrong(&path, "nothing is said of this call", "a time limit, like {timeout: 30s}");
            }
            (Runtime::Exec, _) if call == Call::Init => {
                self.wrong(&path, "only a plugin is told who it is", "on_new_source, run before each start");
            }
            (Runtime::Exec, true) => {
                let remedy = "a program and its arguments, like {command: [\"/bin/true\"]}";
                self.wrong(&command, "there is nothing to run", remedy);
            }
            (Runtime::Exec, false) if program.is_some_and(|text| text.trim().is_empty()) => {
                let remedy = "a program and its arguments, like [\"/bin/true\"]";
                self.wrong(&command, "the command is empty", remedy);
            }
            _ => {}
        }
        for (index, template) in it.command.iter().enumerate() {
            let path = format!("{command}[{index}]");
            self.argument(&path, template, TemplateSet::Instance, Some(&spec.files));
        }
        let Some(timeout) = it.timeout else { return };
        let (path, grace) = (format!("{path}.timeout"), spec.stop.grace);
        if timeout.0 == 0 {
            self.wrong(&path, "no call ends in no time", "a time like 30s");
        } else if call.is_farewell() && timeout > grace {
            let problem =
                format!("{timeout} is more than stop.grace ({grace}), which all calls at the end share");
            self.wrong(&path, problem, format!("at most {grace}, or a longer stop.grace"));
        }
    }

    fn restart(&mut self, restart: &Restart) {
        let (min, max) = (restart.backoff_min, restart.backoff_max);
        if min > max {
            self.wrong(
                "restart.backoff",
                format!("{min}..{max} begins above its end"),
                format!("{max}..{min}"),
            );
        } else if min < BACKOFF_LEAST {
            let problem = format!("a first wait of {min} would restart in a tight loop");
            self.wrong("restart.backoff", problem, format!("at least {BACKOFF_LEAST}, like 1s..60s"));
        }
        if restart.give_up_window.0 == 0 {
            self.wrong("restart.give_up_after", "the time is zero", "a limit like 5 in 10m");
        }
    }

    fn limits(&mut self, limits: &Limits) {
        let amounts = [
            ("memory", limits.memory.map(|bytes| bytes.0)),
            ("cpu", limits.cpu_millis),
            ("open_files", limits.open_files),
            ("processes", limits.processes),
        ];
        for (name, amount) in amounts {
            if amount == Some(0) {
                let path = format!("limits.{name}");
                self.wrong(&path, "nothing can run with a limit of zero", "more; leave it out for no limit");
            }
        }
    }
}

/// What could be meant by a file that the module does not have.
fn instead_of(file: &FileName, files: &BTreeMap<FileName, Template>) -> String {
    const LOOKED_AT: usize = 20;
    let known: Vec<&str> = files.keys().take(LOOKED_AT).map(FileName::as_str).collect();
    match crate::nearest(file.as_str(), &known) {
        Some(known) => format!("did you mean ${{file.{known}}}?"),
        None if known.is_empty() => "a file of that name under files".to_owned(),
        None if known.len() < files.len() => format!("one of {} and more", known.join(", ")),
        None => format!("one of {}", known.join(", ")),
    }
}

fn is_env_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
