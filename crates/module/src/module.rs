//! What a module implements.

use std::future::{Future, ready};
use std::time::Duration;

use crate::{Bucket, Context, Difference, Failure, Job, Node, Subtask};

/// A module. Every call has a default: it does nothing and succeeds.
///
/// What is called when, and how long it may take, is said at each call of `proto/sheaf/module/v1/module.proto`. A call
/// that panics fails with the panic's text.
pub trait Module: Send + Sync + 'static {
    /// Gate 3: may this node run this bucket? Must not change anything, and may be asked of several buckets at a time, in
    /// a process that is told nothing else.
    fn can_run_on_this_node(
        &self,
        bucket: Bucket,
        node: Node,
    ) -> impl Future<Output = Result<CanRun, Failure>> + Send {
        let _ = (bucket, node);
        ready(Ok(CanRun::Yes))
    }

    /// Who the process is; comes first, and once.
    fn on_init(&self, context: Context) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = context;
        ready(Ok(()))
    }

    /// The bucket is to run in this process from now on. Begin in the background, and return.
    fn on_new_source(&self, bucket: Bucket) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = bucket;
        ready(Ok(()))
    }

    /// As [`Module::on_new_source`], which it is by default, after the bucket was suspended on this node.
    fn on_resume(&self, bucket: Bucket) -> impl Future<Output = Result<(), Failure>> + Send {
        self.on_new_source(bucket)
    }

    /// The bucket's document changed. By default the process is started anew for it.
    fn on_updated_source(
        &self,
        old: Bucket,
        new: Bucket,
        differences: Vec<Difference>,
    ) -> impl Future<Output = Result<Taken, Failure>> + Send {
        let _ = (old, new, differences);
        ready(Ok(Taken::Restart))
    }

    /// The bucket's `poll_frequency` has passed.
    fn on_periodic_poll(&self, bucket: Bucket) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = bucket;
        ready(Ok(()))
    }

    /// What the bucket has collected so far is to be thrown away.
    fn on_purge(&self) -> impl Future<Output = Result<(), Failure>> + Send {
        ready(Ok(()))
    }

    /// Show what comes of a bucket, one line on standard output for each object, without touching what the real one has.
    /// By default a module cannot be tested.
    fn on_test_source(
        &self,
        bucket: Bucket,
        max_objects: u64,
        max_time: Duration,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = (bucket, max_objects, max_time);
        ready(Err(Failure::new("this module cannot be tested: it has no on_test_source")))
    }

    /// The bucket was suspended; the end follows.
    fn on_suspend(&self) -> impl Future<Output = Result<(), Failure>> + Send {
        ready(Ok(()))
    }

    /// The bucket was deleted; the end follows. Where it did not run just then a process is started that is told nothing else
    /// after [`Module::on_init`].
    fn on_delete(&self) -> impl Future<Output = Result<(), Failure>> + Send {
        ready(Ok(()))
    }

    /// The bucket leaves this node for good; the end follows. Also in a process of its own, as [`Module::on_delete`].
    fn on_decommission(&self) -> impl Future<Output = Result<(), Failure>> + Send {
        ready(Ok(()))
    }

    /// The process is about to end.
    fn on_stop(&self) -> impl Future<Output = Result<(), Failure>> + Send {
        ready(Ok(()))
    }

    /// How many subtasks of a job this process runs at a time, at least 1: as many as the machine has cores by default. A
    /// node gives it no more than it has slots for.
    fn at_once(&self) -> u32 {
        std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
    }

    /// The process works for this job; comes before its subtasks, and once. Must be done within 30 s.
    fn on_job(&self, job: Job) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = job;
        ready(Ok(()))
    }

    /// Runs a subtask. One that is to be stopped (canceled, over its time limit) is dropped where it waits: what is to be
    /// tidied up belongs into a guard's `Drop`. Work that does not wait is not broken off.
    fn on_subtask(&self, subtask: Subtask) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = subtask;
        ready(Err(Failure::new("this module takes no subtasks: it has no on_subtask")))
    }
}

/// What becomes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The process goes on with the new document.
    Live,
    /// The process is to be started anew with it.
    Restart,
}

/// A module's answer for gate 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CanRun {
    /// It can.
    Yes,
    /// It cannot, and why, for people.
    No(String),
}
