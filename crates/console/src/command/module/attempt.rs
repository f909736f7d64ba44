//! `sheaf module try`: what is to be tried, and how what is seen of it looks. The program itself is started by whoever put the
//! command line together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use sheaf_model::{
    BucketName, BucketSpec, Defect, Exec, Json, ModuleRef, ModuleSpec, ModuleVersion, PutBucket, Runtime,
    SecretName, SecretValue, SubmitJob, Subtasks, Template, TemplateSet,
};

use crate::command::job::first_items;
use crate::command::secret::{read_file, secret_name};
use crate::documents::{self, Source, Written};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Terminal};

/// So many subtasks of a job are tried at most: its first.
const SUBTASKS: usize = 10_000;
/// The version of a module that no document describes.
const UNVERSIONED: &str = "0";

/// `sheaf module try`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Starts the program on this machine as a node would: asks it CanRunOnThisNode, runs the bucket in a process of its own, polls it, \
and ends it at Ctrl-C. What it prints is printed. Objects, checkpoint and all else that it may ask of the cluster is there, in \
memory, and gone afterwards. Needs no cluster, and touches none. The bucket's config is checked against the module's \
config_schema first. A program that fails or ends is not started again, whatever the module's restart says.

PROGRAM replaces what the module in FILE executes; without a module in FILE it is all there is to know of it. Words that name a \
file here are passed on with its absolute path, since the program runs in a directory of its own. Write -- before words that \
begin with a dash.

A worker (`worker: true`) is given the subtasks of a job instead, the first 10,000 of them: FILE has the job. What they print is \
printed, and how many of them finished is said at the end; exit 1 if one failed. None is tried again.

With --conformance a fixed list of checks is made instead that any module should pass: one line each, exit 1 if one fails.

Examples:
  sheaf module try ./my-module -f bucket.yaml
  sheaf module try -f http_poller.yaml -- python3 -u http_poller.py
  sheaf module try ./my-module -f bucket.yaml --conformance")]
pub struct Try {
    /// The program and its arguments
    #[arg(value_name = "PROGRAM")]
    program: Vec<String>,
    /// A file with a bucket, or a job, and perhaps its module; or - for stdin
    #[arg(short = 'f', long = "file", value_name = "FILE|-", required = true)]
    files: Vec<PathBuf>,
    /// Which bucket of the file, if there are several
    #[arg(long, value_name = "NAME", value_parser = crate::command::bucket::bucket_name)]
    bucket: Option<BucketName>,
    /// A secret that the module may ask for; its value is the file's content
    #[arg(long = "secret", value_name = "NAME=FILE", value_parser = secret)]
    secrets: Vec<(SecretName, PathBuf)>,
    /// Make the checks that any module should pass
    #[arg(long)]
    conformance: bool,
}

/// What is to be tried.
#[derive(Clone, Debug)]
pub struct Tried {
    /// Of `runtime: plugin`, and with something to execute.
    pub module: ModuleSpec,
    /// A bucket of it; of a worker what stands for its job at gate 3.
    pub bucket: BucketSpec,
    /// Of a worker: its job, and what the first of its subtasks are about.
    pub job: Option<(SubmitJob, Vec<Json>)>,
    /// What it may ask for.
    pub secrets: BTreeMap<SecretName, SecretValue>,
    /// Whether the checks are to be made.
    pub conformance: bool,
}

/// What was seen of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A line of its standard output.
    Output(String),
    /// What is said beside it.
    Talk(String),
    /// A check, and what was found, or why it failed.
    Checked(&'static str, Result<String, String>),
}

/// What the command is answered where nobody can carry it out.
pub(super) fn elsewhere() -> Failure {
    Failure::usage("this program starts no modules", "the binary `sheaf` does")
}

impl Try {
    /// Reads the documents, and puts the program into them.
    ///
    /// # Errors
    /// Whatever is wrong with them.
    pub fn read(&self, out: &mut Terminal) -> Result<Tried, Failure> {
        let written = documents::read(out, &self.files);
        if !written.defects.is_empty() {
            return Err(Failure::Defects(written.defects));
        }
        let job = self.job_of(&written)?;
        let mut bucket = match &job {
            Some((job, _)) => standing_for(job)?,
            None => self.bucket_of(&written)?.spec.clone(),
        };
        let mut modules = written.sources.iter().flat_map(Source::modules);
        let found = modules.find(|module| {
            let version = bucket.module.version.as_ref();
            module.name == bucket.module.name && version.is_none_or(|version| *version == module.version)
        });
        let mut module = match found {
            Some(module) => module.clone(),
            None => unknown(&bucket.module, job.is_some())?,
        };
        if module.runtime == Runtime::Worker && job.is_none() {
            return Err(Failure::usage(
                format!(
                    "module {}@{} says worker: true, and there is no job in what was given",
                    module.name, module.version
                ),
                "a document of kind: Job",
            ));
        }
        if module.runtime == Runtime::Plugin && job.is_some() {
            return Err(Failure::usage(
                format!("module {}@{} does not say worker: true", module.name, module.version),
                "worker: true in its document, or a bucket instead of the job",
            ));
        }
        if !module.runtime.is_plugin() {
            return Err(Failure::usage(
                format!("module {}@{} is no plugin", module.name, module.version),
                "`module try` is for those of `runtime: plugin`; others are tried by `sheaf bucket test`",
            ));
        }
        if let Some((program, args)) = self.program.split_first() {
            let env = module.exec.take().map(|exec| exec.env).unwrap_or_default();
            let args = args.iter().map(|word| literal(&here(word))).collect::<Result<_, _>>()?;
            module.exec = Some(Exec { command: literal(&here(program))?, args, env });
        }
        if module.exec.is_none() {
            return Err(Failure::usage(
                format!("there is no module {} in what was given, and no program", bucket.module),
                "say which program it is: sheaf module try PROGRAM -f FILE",
            ));
        }
        bucket.module = ModuleRef { name: module.name.clone(), version: Some(module.version.clone()) };
        let secrets = self.secrets.iter().map(|(name, file)| Ok((name.clone(), read_file(file)?)));
        let secrets = secrets.collect::<Result<_, Failure>>()?;
        Ok(Tried { module, bucket, job, secrets, conformance: self.conformance })
    }

    /// The job of a worker, if there is one; none: it is about a bucket.
    fn job_of(&self, written: &Written) -> Result<Option<(SubmitJob, Vec<Json>)>, Failure> {
        let of = |source: &'_ Source| (source.file.clone(), source.jobs().cloned().collect::<Vec<_>>());
        let all: Vec<(String, Vec<SubmitJob>)> = written.sources.iter().map(of).collect();
        let mut jobs = all.iter().flat_map(|(file, jobs)| jobs.iter().map(move |job| (file, job)));
        let Some((file, job)) = jobs.next().filter(|_| self.bucket.is_none()) else { return Ok(None) };
        if jobs.next().is_some() {
            return Err(Failure::usage("there are several jobs in what was given", "a file with one"));
        }
        let items = match job.spec.subtasks {
            Subtasks::Array(range) => {
                let count = range.count().min(SUBTASKS as u64);
                (0..u32::try_from(count).unwrap_or(u32::MAX))
                    .map(|it| Json::new(&range.item(it).into()))
                    .collect()
            }
            Subtasks::Items => first_items(file, job, SUBTASKS).map_err(Failure::Defects)?,
        };
        Ok(Some((job.clone(), items)))
    }

    fn bucket_of<'a>(&self, written: &'a Written) -> Result<&'a PutBucket, Failure> {
        let buckets: Vec<&PutBucket> = written.sources.iter().flat_map(Source::buckets).collect();
        let meant = |put: &&&PutBucket| self.bucket.as_ref().is_none_or(|name| *name == put.spec.name);
        let found: Vec<&PutBucket> = buckets.iter().filter(meant).copied().collect();
        match (found.as_slice(), &self.bucket) {
            ([put], _) => Ok(put),
            ([], Some(name)) => {
                Err(Failure::NotFound(format!("there is no bucket {name} in what was given")))
            }
            ([], None) => {
                Err(Failure::usage("there is no bucket in what was given", "a document of kind: Bucket"))
            }
            (several, _) => {
                let names: Vec<&str> = several.iter().map(|put| put.spec.name.as_str()).collect();
                Err(Failure::usage(
                    format!("there are {} buckets in what was given", names.len()),
                    format!("say which one with --bucket: {}", names.join(", ")),
                ))
            }
        }
    }
}

/// `NAME=FILE`
fn secret(text: &str) -> Result<(SecretName, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("NAME=FILE, with the value in the file")?;
    Ok((secret_name(name)?, file.into()))
}

/// As gates see a job.
fn standing_for(job: &SubmitJob) -> Result<BucketSpec, Failure> {
    let name = BucketName::new(&format!("/jobs/{}", job.spec.name));
    let name =
        name.map_err(|error| Failure::Defects(vec![Defect::new("name", error.problem, error.remedy)]))?;
    Ok(BucketSpec::new(name, job.spec.module.clone()))
}

/// A module that only its program describes.
fn unknown(named: &ModuleRef, works: bool) -> Result<ModuleSpec, Failure> {
    let version = match &named.version {
        Some(version) => version.clone(),
        None => ModuleVersion::new(UNVERSIONED).map_err(|error| Failure::Refused(error.to_string()))?,
    };
    let runtime = if works { Runtime::Worker } else { Runtime::Plugin };
    Ok(ModuleSpec::new(named.name.clone(), version, runtime))
}

/// A word that names a file here, so that it is found from elsewhere.
fn here(word: &str) -> String {
    let path = Path::new(word);
    let named = path.is_relative() && path.is_file();
    let absolute = if named { std::path::absolute(path).ok() } else { None };
    absolute.map_or_else(|| word.to_owned(), |path| path.to_string_lossy().into_owned())
}

/// A text as it stands.
fn literal(text: &str) -> Result<Template, Failure> {
    let escaped = text.replace("${", "$${");
    Template::parse(&escaped, TemplateSet::Instance)
        .map_err(|error| Failure::Refused(format!("{text}: {error}")))
}

/// Prints what is seen, as it comes.
#[derive(Debug)]
pub struct Report {
    format: Format,
    checks: Vec<Value>,
    failed: usize,
}

impl Report {
    /// Nothing seen yet.
    pub fn new(format: Format) -> Self {
        Self { format, checks: Vec::new(), failed: 0 }
    }

    /// Prints one thing. Beside checks the output is only talk.
    ///
    /// # Errors
    /// If stdout is closed.
    pub fn show(&mut self, out: &mut Terminal, shown: Shown, conformance: bool) -> Result<(), Failure> {
        match shown {
            Shown::Output(line) if conformance => out.say(&format!("  | {line}")),
            Shown::Output(line) => {
                out.line(&line)?;
                out.flush()?;
            }
            Shown::Talk(text) => out.say(&text),
            Shown::Checked(check, found) => {
                self.failed += usize::from(found.is_err());
                let (result, text) = match found {
                    Ok(text) => ("ok", text),
                    Err(why) => ("failed", why),
                };
                if matches!(self.format, Format::Json | Format::Yaml) {
                    self.checks.push(json!({"check": check, "result": result, "message": text}));
                } else {
                    let mark = if text.is_empty() { "" } else { ": " };
                    out.line(&format!("{result:<7} {check}{mark}{text}"))?;
                    out.flush()?;
                }
            }
        }
        Ok(())
    }

    /// What comes last of a list of checks.
    ///
    /// # Errors
    /// If one of them failed.
    pub fn end(self, out: &mut Terminal) -> Result<Exit, Failure> {
        let Self { format, checks, failed } = self;
        let value = json!({"passed": failed == 0, "checks": checks});
        match format {
            Format::Json => out.json(&value)?,
            Format::Yaml => out.yaml(&value)?,
            Format::Table | Format::Wide | Format::Name => {}
        }
        match failed {
            0 => Ok(Exit::Done),
            1 => Err(Failure::Refused("1 check failed".to_owned())),
            failed => Err(Failure::Refused(format!("{failed} checks failed"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::recorded;

    fn read(program: &[&str], text: &str) -> Result<Tried, Failure> {
        let (mut out, _) = recorded::terminal(text);
        let program = program.iter().map(|word| (*word).to_owned()).collect();
        Try { program, files: vec!["-".into()], bucket: None, secrets: vec![], conformance: false }
            .read(&mut out)
    }

    const BUCKET: &str = "kind: Bucket\nname: /a\nmodule: m\n";

    #[test]
    fn a_program_alone_is_a_module() {
        let tried = read(&["/bin/m", "${x}"], BUCKET).expect("all that is needed");
        assert_eq!(tried.bucket.module.to_string(), "m@0");
        let exec = tried.module.exec.expect("a program");
        assert_eq!((exec.command.to_string(), exec.args[0].to_string()), ("/bin/m".into(), "$${x}".into()));
    }

    #[test]
    fn a_program_takes_the_place_of_what_the_module_executes() {
        let module = "kind: Module\nname: m\nversion: '3'\nruntime: plugin\nexec: {command: /bin/other, env: {A: b}}\n---\n";
        let tried = read(&["/bin/m"], &format!("{module}{BUCKET}")).expect("all that is needed");
        let exec = tried.module.exec.expect("a program");
        assert_eq!((exec.command.to_string(), exec.env.len()), ("/bin/m".into(), 1));
        assert_eq!(tried.bucket.module.to_string(), "m@3");
        let tried = read(&[], &format!("{module}{BUCKET}")).expect("the module's own");
        assert_eq!(tried.module.exec.expect("a program").command.to_string(), "/bin/other");
    }

    #[test]
    fn what_cannot_be_meant_says_what_can() {
        let said = |program: &[&str], text: &str| read(program, text).expect_err("refused").to_string();
        assert!(said(&[], BUCKET).contains("no module m in what was given, and no program"));
        let exec = "kind: Module\nname: m\nversion: '3'\nexec: {command: /bin/other}\n---\n";
        assert!(said(&["/bin/m"], &format!("{exec}{BUCKET}")).starts_with("module m@3 is no plugin"));
        let two = format!("{BUCKET}---\nkind: Bucket\nname: /b\nmodule: m\n");
        assert!(said(&["/bin/m"], &two).ends_with("say which one with --bucket: /a, /b"));
    }

    #[test]
    fn a_check_is_a_line_and_a_failed_one_is_the_end() {
        let (mut out, recording) = recorded::terminal("");
        let mut report = Report::new(Format::Table);
        let checks = [("OnStop", Ok(String::new())), ("OnPurge", Err("it is late".to_owned()))];
        for (check, found) in checks {
            report.show(&mut out, Shown::Checked(check, found), true).expect("printed");
        }
        assert_eq!(recording.data(), "ok      OnStop\nfailed  OnPurge: it is late\n");
        assert_eq!(report.end(&mut out).expect_err("one failed").to_string(), "1 check failed");
    }
}
