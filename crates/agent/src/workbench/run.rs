//! The bucket runs, as on a node, until somebody ends it.

use std::time::Duration;

use futures::future::LocalBoxFuture;
use sheaf_model::{Call, RestartWhen};
use sheaf_module::CanRun;
use tokio::time::{Instant, sleep};

use super::process::{For, Process};
use super::{Seen, Workbench, WorkbenchError};
use crate::checks::{DEFAULT_TIMEOUT, ended};

impl Workbench {
    /// Asks gate 3, then runs the bucket and polls it until `stop`, and ends it.
    ///
    /// # Errors
    /// If the module refuses, fails, or ends by itself.
    pub fn run<'a>(&'a self, stop: LocalBoxFuture<'a, ()>) -> LocalBoxFuture<'a, Result<(), WorkbenchError>> {
        Box::pin(self.run_until(stop))
    }

    async fn run_until(&self, mut stop: LocalBoxFuture<'_, ()>) -> Result<(), WorkbenchError> {
        self.ask().await?;
        let process = self.start(For::Bucket).await?;
        let running = async {
            self.begin(&process).await?;
            self.keep_polling(&process).await
        };
        let why = tokio::select! {
            // It is ended next, whatever was under way.
            () = &mut stop => None,
            why = self.memory.stopped() => Some(why),
            failed = running => return Err(WorkbenchError::Module(self.give_up(process, failed).await)),
        };
        if let Some(why) = &why {
            self.see(Seen::Did(format!("the bucket is {why}"))).await;
            let told = process.host.on_suspend();
            if let Err(wrong) = process.within("OnSuspend", process.limit(Call::Suspend), told).await {
                self.see(Seen::Did(wrong.why)).await;
            }
        }
        let (told, last) = process.stop().await;
        self.see(Seen::Did(told.map_or_else(|why| why, |()| "OnStop: done".to_owned()))).await;
        let last = last.map_err(WorkbenchError::Module)?;
        self.see(Seen::Did(ended(&last))).await;
        Ok(())
    }

    pub(super) async fn ask(&self) -> Result<(), WorkbenchError> {
        let gate = self.start(For::Gate).await?;
        let asked = gate.host.can_run_on_this_node(self.told(), gate.node());
        let answer = gate.within("CanRunOnThisNode", DEFAULT_TIMEOUT, asked).await;
        gate.end(Instant::now() + self.module.stop.grace.duration()).await.map_err(WorkbenchError::Module)?;
        match answer {
            Ok(Some(CanRun::No(reason))) => {
                Err(WorkbenchError::Module(format!("CanRunOnThisNode: no: {reason}")))
            }
            Ok(_) => {
                self.see(Seen::Did("CanRunOnThisNode: yes".to_owned())).await;
                Ok(())
            }
            Err(wrong) => Err(WorkbenchError::Module(wrong.why)),
        }
    }

    async fn begin(&self, process: &Process<'_>) -> Result<(), String> {
        let instance = self.instance(&process.dir);
        let init = process.host.on_init(instance);
        process.within("OnInit", process.limit(Call::Init), init).await.map_err(|wrong| wrong.why)?;
        let begun = process.host.on_new_source(self.told());
        process
            .within("OnNewSource", process.limit(Call::NewSource), begun)
            .await
            .map_err(|wrong| wrong.why)?;
        self.see(Seen::Did(format!("{} runs; Ctrl-C ends it", self.bucket.name))).await;
        Ok(())
    }

    /// Until it fails: what it failed with.
    async fn keep_polling(&self, process: &Process<'_>) -> Result<(), String> {
        let every = self.bucket.poll_frequency.map(|every| every.duration());
        loop {
            tokio::select! {
                // Nothing is lost: the next wait begins anew.
                last = process.handle.ended() => return Err(ended(&last)),
                () = sleep(every.unwrap_or(Duration::MAX)) => {}
            }
            let limit = process.limit(Call::PeriodicPoll);
            let polled = process.host.on_periodic_poll(self.told());
            match process.within("OnPeriodicPoll", limit, polled).await {
                Ok(_) => {}
                // That it failed is only shown.
                Err(wrong) if wrong.answered => self.see(Seen::Did(wrong.why)).await,
                Err(wrong) => return Err(wrong.why),
            }
        }
    }

    /// Ends a process that has failed; why it has.
    async fn give_up(&self, process: Process<'_>, failed: Result<(), String>) -> String {
        let _ = process.end(Instant::now() + self.module.stop.grace.duration()).await; // there is a first reason
        let restart = match self.module.restart.policy {
            RestartWhen::Never => {
                "a node would not start it again, as its module says restart.policy: never".to_owned()
            }
            // Whatever fails is no exit with 0.
            policy => format!(
                "a node would start it again (restart.policy: {}); here it is started once",
                policy.as_str()
            ),
        };
        self.see(Seen::Did(restart)).await;
        failed.err().unwrap_or_else(|| "it has ended".to_owned())
    }
}
