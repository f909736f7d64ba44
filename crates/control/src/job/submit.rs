//! Submitting a job: its items go into the log in chunks, and nobody sees it before the last.

use std::sync::Arc;

use futures::StreamExt as _;
use sheaf_engine::job::submit::{Digest, check};
use sheaf_engine::{AddItems, BeginSubmit, Command, CommitSubmit, Reply, State, SubmitAll};
use sheaf_model::document::job_module_defects;
use sheaf_model::{Defect, Item, JobId, JobSpec, ModuleRef, Revision, Subtasks};
use sheaf_wire::job::{CheckJob, SubmitPart, Submitted};
use sheaf_wire::{Answers, ApiError, Caller};

use crate::Control;
use crate::backend::unknown;
use crate::dispatcher::unsendable;
use crate::propose::refused;
use crate::secret::{missing, module_of};
use crate::warnings::unpushed;

/// Where a submit stands.
struct Stands {
    job: JobId,
    next: u32,
    committed: bool,
}

impl Control {
    pub(super) async fn submit_job(
        &self,
        caller: &Caller,
        mut spec: JobSpec,
        mut parts: Answers<SubmitPart>,
    ) -> Result<Submitted, ApiError> {
        if spec.request_id.is_none() {
            spec.request_id.clone_from(&caller.request);
        }
        self.check_module(&spec)?;
        let most = self.changeable().jobs.max_subtasks;
        let spec = Arc::new(spec);
        if let Subtasks::Array(_) = spec.subtasks {
            expect_done(&mut parts).await?;
            let all = SubmitAll { spec: spec.clone(), most, items: Arc::default() };
            let before = self.is_known(&spec);
            let stands = self.step(caller, Command::Submit(all)).await?;
            return self.submitted(&spec, &stands, before);
        }
        let begin = BeginSubmit { spec: spec.clone(), most };
        let before = self.is_known(&spec);
        let stands = self.step(caller, Command::BeginSubmit(begin)).await?;
        let (mut digest, mut count) = (Digest::default(), 0_u32);
        loop {
            match parts.next().await {
                Some(Ok(SubmitPart::Items(items))) => {
                    digest = digest.and_all(&items);
                    let first = count;
                    count = count.saturating_add(u32::try_from(items.len()).unwrap_or(u32::MAX));
                    self.add(caller, &stands, first, items).await?;
                }
                Some(Ok(SubmitPart::Done { count: said })) if said == count => break,
                Some(Ok(SubmitPart::Done { count: said })) => {
                    let problem = format!("{count} items came, not {said}");
                    return Err(ApiError::invalid("done", problem, "the number of items that were sent"));
                }
                Some(Err(error)) => return Err(error),
                None => {
                    let why = "the submit broke off before its end; nothing of it is visible";
                    return Err(ApiError::Precondition(why.to_owned()));
                }
            }
        }
        if !stands.committed {
            let commit = CommitSubmit { job: stands.job, count, digest: digest.value() };
            self.step(caller, Command::CommitSubmit(commit)).await?;
        } else if !self.has_digest(stands.job, digest) {
            return Err(ApiError::Conflict(format!(
                "request_id belongs to job {}, which was submitted with other items; use another id",
                spec.name
            )));
        }
        self.submitted(&spec, &stands, before)
    }

    /// Whether a job would be taken, as far as its spec and the number of its items tell; with everything that is wrong.
    pub(super) fn check_job(&self, ask: &CheckJob) -> Result<Submitted, ApiError> {
        let CheckJob { spec, items } = ask;
        let mut defects = self.module_defects(spec)?;
        let most = self.changeable().jobs.max_subtasks;
        let member = self.member()?;
        let state = member.replica.state();
        let known = match check(&state, spec, *items, most).map_err(refused) {
            Err(ApiError::Invalid(more)) => {
                defects.extend(more);
                false
            }
            found => found?,
        };
        if !defects.is_empty() {
            return Err(ApiError::Invalid(defects));
        }
        let count = match spec.subtasks {
            Subtasks::Array(range) => u32::try_from(range.count()).unwrap_or(u32::MAX),
            Subtasks::Items => *items,
        };
        let (name, warnings) = (spec.name.clone(), lacks(&spec.module, &state));
        Ok(Submitted { name, id: JobId(0), count, revision: Revision(0), known, warnings })
    }

    /// Refuses what a module asks for that subtasks do not get. Looked at here only: what the log holds is not refused by
    /// another build.
    fn check_module(&self, spec: &JobSpec) -> Result<(), ApiError> {
        let defects = self.module_defects(spec)?;
        if defects.is_empty() { Ok(()) } else { Err(ApiError::Invalid(defects)) }
    }

    fn module_defects(&self, spec: &JobSpec) -> Result<Vec<Defect>, ApiError> {
        let member = self.member()?;
        let state = member.replica.state();
        // One that is not there is told with everything else that the state knows.
        let module = module_of(&spec.module, &[], &state);
        let mut defects = module.map(|module| job_module_defects(spec, module)).unwrap_or_default();
        defects.extend(module.and_then(|module| unsendable(spec, module, &state)));
        defects.extend(unknown(spec, &state));
        Ok(defects.into_iter().map(|it| it.of(format!("Job {}", spec.name))).collect())
    }

    /// The next items, unless they are there already: a submit that is repeated goes on where it broke off.
    async fn add(
        &self,
        caller: &Caller,
        stands: &Stands,
        first: u32,
        items: Vec<Item>,
    ) -> Result<(), ApiError> {
        if stands.committed {
            return Ok(());
        }
        let add = AddItems { job: stands.job, first, items: Arc::new(items) };
        self.step(caller, Command::AddItems(add)).await.map(drop)
    }

    async fn step(&self, caller: &Caller, command: Command) -> Result<Stands, ApiError> {
        // Each is the same however often it is applied; the request's id stands for the job, not for one command of it.
        match self.propose(caller, None, command).await? {
            Reply::Submit { job, next, committed } => Ok(Stands { job, next, committed }),
            Reply::Refused(refusal) => Err(refused(refusal)),
            other => Err(ApiError::Internal(format!("an answer that fits no submit: {other:?}"))),
        }
    }

    fn is_known(&self, spec: &JobSpec) -> bool {
        let Ok(member) = self.member() else { return false };
        let state = member.replica.state();
        let known = spec.request_id.as_ref().and_then(|request| state.jobs.requested(request));
        known.is_some_and(|id| state.jobs.get(id).is_some())
    }

    fn has_digest(&self, job: JobId, digest: Digest) -> bool {
        let Ok(member) = self.member() else { return false };
        let state = member.replica.state();
        state.jobs.get(job).is_some_and(|job| job.digest == digest.value())
    }

    fn submitted(&self, spec: &JobSpec, stands: &Stands, known: bool) -> Result<Submitted, ApiError> {
        tracing::debug!(job = %stands.job, next = stands.next, "submitted");
        let member = self.member()?;
        let state = member.replica.state();
        let job = state.jobs.get(stands.job);
        Ok(Submitted {
            name: spec.name.clone(),
            id: stands.job,
            count: job.map_or(0, |job| job.count),
            revision: job.map_or(Revision(0), |job| job.created),
            known,
            warnings: lacks(&spec.module, &state),
        })
    }
}

/// What is not there yet and subtasks wait for, or fail without.
fn lacks(module: &ModuleRef, state: &State) -> Vec<String> {
    let Some(spec) = module_of(module, &[], state) else { return Vec::new() };
    let mut warnings = missing(std::slice::from_ref(spec), &[], state);
    warnings.extend(unpushed([spec], state));
    warnings
}

/// An array has no items.
async fn expect_done(parts: &mut Answers<SubmitPart>) -> Result<(), ApiError> {
    match parts.next().await {
        Some(Ok(SubmitPart::Done { .. })) => Ok(()),
        Some(Ok(SubmitPart::Items(_))) => {
            Err(ApiError::invalid("items", "an array has no items", "subtasks of items, or no items"))
        }
        Some(Err(error)) => Err(error),
        None => Err(ApiError::Precondition("the submit broke off before its end".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::{
        ArrayRange, BackendName, BackendSpec, JobName, ModuleName, ModuleSpec, ModuleVersion, Runtime,
    };
    use sheaf_wire::backend::{ApplyBackend, BackendApi};
    use sheaf_wire::cluster::Apply;
    use sheaf_wire::{Done, job::JobApi};

    use super::*;
    use crate::propose::tests::{One, Still};

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_only_validated_is_not_there_afterwards() {
        let one = One::formed().await;
        let control = one.control(Arc::new(Still));
        let who = || Caller::local("test");
        let module = ModuleSpec::new(
            ModuleName::new("m").expect("a name"),
            ModuleVersion::new("1").expect("a version"),
            Runtime::Exec,
        );
        let ask = Apply { modules: vec![module], ..Apply::default() };
        control.apply_documents(&who(), ask).await.expect("applied");

        let vito = async |validate_only| {
            let spec = BackendSpec::new(BackendName::new("vito").expect("a name"));
            let ask = ApplyBackend { spec, request: None, validate_only };
            BackendApi::apply(&control, who(), ask).await.expect("a good one")
        };
        let spec = |module: &str, subtasks| {
            let name = JobName::new("ndvi").expect("a name");
            let mut spec = JobSpec::new(name, ModuleRef::parse(module).expect("a module"), subtasks);
            spec.backends = vec![BackendName::new("vito").expect("a name")];
            spec
        };
        let check = async |spec, items| {
            let answer = JobApi::check(&control, who(), CheckJob { spec, items }).await;
            answer.map_err(|error| error.to_string())
        };
        let array = Subtasks::Array(ArrayRange { first: 0, last: 9, step: 1 });
        let large = Subtasks::Array(ArrayRange { first: 0, last: 20_000_000, step: 1 });

        let before = one.member.replica.state().revision;
        assert_eq!(vito(true).await, Done::default());
        let said = check(spec("m", array), 0).await.expect_err("it names what is not there");
        assert!(said.contains("Job ndvi: backends[0]: there is no backend vito"), "{said}");
        let said = check(spec("m", large), 0).await.expect_err("all of that is told");
        for part in ["there is no backend vito", "has 20000001 subtasks"] {
            assert!(said.contains(part), "{part:?} in {said}");
        }
        assert_eq!(one.member.replica.state().revision, before);

        let done = vito(false).await;
        let again = vito(true).await;
        assert_eq!((again.revision, again.unchanged), (done.revision, true));
        let taken = check(spec("m", array), 0).await.expect("it is good");
        assert_eq!((taken.count, taken.id, taken.known), (10, JobId(0), false));
        let said = check(spec("none", array), 0).await.expect_err("there is no such module");
        assert!(said.contains("there is no module none"), "{said}");
        let said = check(spec("m", Subtasks::Items), u32::MAX).await.expect_err("too many");
        assert!(said.contains("there are 4294967295 items, and a job may have"), "{said}");
        assert_eq!(one.member.replica.state().revision, done.revision);
        assert!(one.member.replica.state().jobs.is_empty());
    }
}
