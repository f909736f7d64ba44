//! The secrets of a program that is about to be started again: asked for right before, so that a wait, short or long, does not
//! make them old.
//!
//! ```text
//!  keeper, its wait is over ── Status { asked: 3 } ──► agent ── asks the cluster
//!           starts ◄────────── Renewed { asked: 3 } ────┘
//! ```
//!
//! With nobody to ask (the agent is away), or no answer in time, it starts with those that it has.

use sheaf_engine::keep::Input;

use super::super::{FromKeeper, Opened};
use super::{Keeper, Wires};

impl Keeper {
    /// Asks whoever is connected. Some input: nobody is.
    pub(super) fn renew(&mut self, wires: &mut Wires) -> Option<Input> {
        self.status.asked = Some(self.status.asked.unwrap_or_default() + 1);
        wires.say(&FromKeeper::Status(Box::new(self.status.clone())));
        wires.are_none().then_some(Input::Renewed)
    }

    /// The plan changed while a start waits: what is asked for may be another, and the answer under way older than what came
    /// with the plan.
    pub(super) fn renew_anew(&mut self, wires: &mut Wires) {
        if self.keep.is_renewing()
            && let Some(input) = self.renew(wires)
        {
            self.feed(input, wires);
        }
    }

    /// An answer. One to an earlier question counts for nothing.
    pub(super) fn renewed(&mut self, asked: u64, opened: Opened, wires: &mut Wires) {
        if self.status.asked == Some(asked) {
            self.opened.take(opened);
            self.feed(Input::Renewed, wires);
        }
    }

    /// Whoever was asked is gone.
    pub(super) fn renew_by_nobody(&mut self, wires: &mut Wires) {
        if self.keep.is_renewing() && wires.are_none() {
            self.feed(Input::Renewed, wires);
        }
    }
}
