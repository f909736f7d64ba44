//! The commands that tell a program of its life: run beside it, one at a time.

use std::ffi::OsString;

use sheaf_engine::keep::Input;
use sheaf_model::{Call, Exit, Revision};
use sheaf_module::Bucket;

use super::super::change::change;
use super::super::layout::write_json_for;
use super::super::program::{Executed, Program, render};
use super::super::{FromKeeper, clock, proc};
use super::{Keeper, Wires};

/// One that runs.
#[derive(Debug)]
pub(super) struct Running {
    call: Call,
    pub(super) program: Program,
    /// The bucket that it tells of.
    bucket: Bucket,
}

impl Keeper {
    /// Runs the command for a call. Some input: it could not be.
    pub(super) fn run_command(&mut self, call: Call) -> Option<Input> {
        self.hang_up();
        match self.place_command(call) {
            Ok(mut running) => {
                // The check at exec: the lock is ours, and this is the boot and the epoch of the last one. A lease that has
                // ended meanwhile is seen at the next turn, which kills the second stage too.
                if self.keep.lease().until().is_none_or(|until| clock::now() < until) {
                    running.program.go();
                }
                self.command = Some(running);
                None
            }
            Err(why) => Some(Input::Called(Err(format!("{}: {why}", call.as_str())))),
        }
    }

    fn place_command(&self, call: Call) -> Result<Running, String> {
        let (layout, plan) = (&self.layout, &self.plan);
        let commands = plan.commands.as_deref().ok_or("the module has no commands")?;
        let line = commands.lines.get(&call).ok_or("the module has no command for it")?;
        let mut more = Vec::new();
        if let Some(pid) = self.leader() {
            more.push(("SHEAF_PID", OsString::from(pid.to_string())));
        }
        if matches!(call, Call::NewSource | Call::Resume | Call::UpdatedSource) {
            render(plan, &self.opened, layout)?;
        }
        if call == Call::UpdatedSource {
            let told = self.told.as_ref().unwrap_or(&commands.bucket);
            let changed = change(told, &commands.bucket);
            let owner = plan.confine.hand_over(layout.data_dir(), &layout.dir())?;
            write_json_for(owner, &layout.change(), &changed).map_err(|error| error.to_string())?;
            more.push(("SHEAF_CHANGE", layout.change().into_os_string()));
        }
        let program = Program::place_aside(plan, &self.opened, layout, line, &more)?;
        Ok(Running { call, program, bucket: commands.bucket.clone() })
    }

    /// Whether this child is the command that runs; then its end is the call's.
    pub(super) fn is_command(&self, pid: i32) -> bool {
        self.command.as_ref().is_some_and(|running| running.program.pid == pid)
    }

    pub(super) fn command_ended(&mut self, exit: Exit, wires: &mut Wires) {
        let Some(mut running) = self.command.take() else { return };
        proc::kill_group_of(running.program.pid);
        let executed = running.program.executed();
        let last = running.program.finish_aside(&mut self.output, clock::wall());
        let result = match (executed, exit) {
            (Some(Executed::No(why)), _) => Err(why),
            (_, Exit::Code(0)) => Ok(()),
            (_, exit) if last.is_empty() => Err(exit.to_string()),
            (_, exit) => Err(format!("{exit}: {last}")),
        };
        if result.is_ok() && running.call == Call::UpdatedSource {
            self.told = Some(running.bucket);
        }
        self.feed(Input::Called(result.map_err(|why| format!("{}: {why}", running.call.as_str()))), wires);
    }

    /// Ends the command that runs, if there is one; nobody waits for it any more.
    pub(super) fn hang_up(&mut self) {
        if let Some(running) = self.command.take() {
            proc::kill_group_of(running.program.pid);
            running.program.finish_aside(&mut self.output, clock::wall());
        }
    }

    /// A purge is asked for: it is done once, however often that is said.
    pub(super) fn purge(&mut self, revision: Revision, wires: &mut Wires) {
        let done = self.status.purged.as_ref().map(|(done, _)| *done);
        if Some(revision) > done.max(self.purging) {
            self.purging = Some(revision);
            self.feed(Input::PurgeAsked, wires);
        }
    }

    /// How it went, which agents must hear of also after a restart of the machine.
    pub(super) fn purged(&mut self, failure: String, wires: &mut Wires) {
        let Some(revision) = self.purging.take() else { return };
        self.status.purged = Some((revision, failure));
        if let Err(error) = self.layout.write_status(&self.status, true) {
            eprintln!("sheaf keep {}: {error}", self.plan.bucket);
        }
        wires.say(&FromKeeper::Status(Box::new(self.status.clone())));
    }
}
