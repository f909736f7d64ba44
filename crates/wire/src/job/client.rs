//! The client side of `sheaf.v1.JobService`.

use futures::StreamExt as _;
use futures::stream::BoxStream;
use sheaf_model::view::{JobExplanation, JobRow, JobStatus, SubtaskRow};
use sheaf_model::{JobName, JobSpec, RequestId};
use tonic::transport::Channel;

use super::{
    CancelSubtasks, CheckJob, ExplainJob, GotJob, JobLogs, ListJobs, ListSubtasks, OnJob, Reprioritize,
    RetrySubtasks, SubmitPart, Submitted, Touched, submit,
};
use crate::call::Outgoing;
use crate::error::from_status;
use crate::logs::LogLine;
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::job_service_client::JobServiceClient;
use crate::server::MESSAGE_MAX;
use crate::{Answers, Asking, Client, Done, Page, call};

impl Client {
    fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Submits a job: takes as long as the parts take to come, whatever the client's deadline. Parts that end before
    /// `Done` are refused. Under the same request id it may be asked again, from the start.
    pub fn submit_job(&self, spec: JobSpec, parts: BoxStream<'static, SubmitPart>) -> Asking<'_, Submitted> {
        Box::pin(async move {
            let id = spec.request_id.clone();
            let request = self.change(Outgoing(submit::write(spec, parts)), id.as_ref());
            let answer = self.jobs().submit(request).await;
            answer.map_err(|status| from_status(self.address(), &status))?.into_inner().try_into()
        })
    }

    /// Whether a job would be taken; nothing is submitted.
    pub fn check_job(&self, ask: CheckJob) -> Asking<'_, Submitted> {
        Box::pin(async move {
            let message = futures::stream::iter([submit::check(ask)]);
            let request = self.request(Outgoing(message.boxed()));
            self.unary(request, async |request| self.jobs().submit(request).await).await?.try_into()
        })
    }

    /// A page of jobs, the newest first.
    pub fn list_jobs(&self, ask: ListJobs) -> Asking<'_, Page<JobRow>> {
        Box::pin(async move {
            let request = self.request(v1::ListJobsRequest::from(ask));
            self.unary(request, async |request| self.jobs().list(request).await).await?.try_into()
        })
    }

    /// What a job was asked to be and where it stands.
    pub fn job<'a>(&'a self, name: &'a JobName) -> Asking<'a, GotJob> {
        Box::pin(async move {
            let request = self.request(v1::GetJobRequest { name: name.as_str().to_owned() });
            self.unary(request, async |request| self.jobs().get(request).await).await?.try_into()
        })
    }

    /// A page of a job's subtasks, in the order of their numbers.
    pub fn list_subtasks(&self, ask: ListSubtasks) -> Asking<'_, Page<SubtaskRow>> {
        Box::pin(async move {
            let request = self.request(v1::ListSubtasksRequest::from(ask));
            self.unary(request, async |request| self.jobs().subtasks(request).await).await?.try_into()
        })
    }

    /// Why a job, or one subtask of it, does not run, or no faster.
    pub fn explain_job(&self, ask: ExplainJob) -> Asking<'_, JobExplanation> {
        Box::pin(async move {
            let request = self.request(v1::ExplainJobRequest::from(ask));
            self.unary(request, async |request| self.jobs().explain(request).await).await?.try_into()
        })
    }

    /// A job as it is, then as it changes, until it is over.
    pub fn watch_job<'a>(&'a self, name: &'a JobName) -> Asking<'a, Answers<JobStatus>> {
        Box::pin(async move {
            let request = self.request(v1::WatchJobRequest { name: name.as_str().to_owned() });
            let steps = self.stream(request, async |request| self.jobs().watch(request).await).await?;
            Ok(call::incoming(self.address(), steps, TryInto::try_into))
        })
    }

    /// What an attempt of a subtask printed.
    pub fn job_logs(&self, ask: JobLogs) -> Asking<'_, Answers<LogLine>> {
        Box::pin(async move {
            let request = self.request(v1::JobLogsRequest::from(ask));
            let lines = self.stream(request, async |request| self.jobs().logs(request).await).await?;
            Ok(call::incoming(self.address(), lines, TryInto::try_into))
        })
    }

    /// Starts nothing more of a job.
    pub fn pause_job(&self, ask: OnJob, id: Option<RequestId>) -> Asking<'_, Done> {
        Box::pin(async move {
            let request = self.change(v1::PauseJobRequest::of(&ask, id.as_ref()), id.as_ref());
            Ok(self.unary(request, async |request| self.jobs().pause(request).await).await?.into())
        })
    }

    /// Lets a job go on.
    pub fn resume_job(&self, ask: OnJob, id: Option<RequestId>) -> Asking<'_, Done> {
        Box::pin(async move {
            let request = self.change(v1::ResumeJobRequest::of(&ask, id.as_ref()), id.as_ref());
            Ok(self.unary(request, async |request| self.jobs().resume(request).await).await?.into())
        })
    }

    /// Deletes a job that is over.
    pub fn delete_job(&self, ask: OnJob, id: Option<RequestId>) -> Asking<'_, Done> {
        Box::pin(async move {
            let request = self.change(v1::DeleteJobRequest::of(&ask, id.as_ref()), id.as_ref());
            Ok(self.unary(request, async |request| self.jobs().delete(request).await).await?.into())
        })
    }

    /// Ends a job, or some of its subtasks.
    pub fn cancel_subtasks(&self, ask: CancelSubtasks, id: Option<RequestId>) -> Asking<'_, Touched> {
        Box::pin(async move {
            let request = self.change(v1::CancelSubtasksRequest::of(ask, id.as_ref()), id.as_ref());
            Ok(self.unary(request, async |request| self.jobs().cancel(request).await).await?.into())
        })
    }

    /// Has failed and canceled subtasks tried again.
    pub fn retry_subtasks(&self, ask: RetrySubtasks, id: Option<RequestId>) -> Asking<'_, Touched> {
        Box::pin(async move {
            let request = self.change(v1::RetrySubtasksRequest::of(&ask, id.as_ref()), id.as_ref());
            Ok(self.unary(request, async |request| self.jobs().retry(request).await).await?.into())
        })
    }

    /// Gives a job, or some of its subtasks, another priority.
    pub fn reprioritize(&self, ask: Reprioritize, id: Option<RequestId>) -> Asking<'_, Touched> {
        Box::pin(async move {
            let request = self.change(v1::ReprioritizeSubtasksRequest::of(&ask, id.as_ref()), id.as_ref());
            Ok(self.unary(request, async |request| self.jobs().reprioritize(request).await).await?.into())
        })
    }
}

/// What is made of the bytes of each answer, see [`crate::probe`].
pub(crate) fn answers() -> Vec<Probe> {
    vec![
        Probe::answer::<v1::SubmitJobResponse, Submitted>(),
        Probe::answer::<v1::ListJobsResponse, Page<JobRow>>(),
        Probe::answer::<v1::GetJobResponse, GotJob>(),
        Probe::answer::<v1::ListSubtasksResponse, Page<SubtaskRow>>(),
        Probe::answer::<v1::JobExplanation, JobExplanation>(),
        Probe::answer::<v1::JobStatus, JobStatus>(),
        Probe::plain::<v1::SubtasksResponse, Touched>(),
    ]
}
