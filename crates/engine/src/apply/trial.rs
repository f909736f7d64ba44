//! Trials: buckets that are there to be tried, and then deleted.

use crate::command::{Apply, PutTrial, Refusal, Reply};
use crate::registration;

use super::{Line, Transaction};

impl Transaction<'_> {
    pub(super) fn put_trial(&mut self, ask: &PutTrial) -> Result<Reply, Refusal> {
        let name = &ask.put.spec.name;
        if self.state.buckets.contains_key(name) {
            return Err(Refusal::Conflict(format!("bucket {name} exists already")));
        }
        if ask.put.spec.multi_node {
            return Err(Refusal::Precondition(format!("bucket {name} is a trial, which runs on one node")));
        }
        let apply = Apply { modules: Vec::new(), buckets: vec![ask.put.clone()] };
        let Some(spec) = registration::check(self.state, &apply)?.pop() else {
            return Err(Refusal::Stale("nothing to try".to_owned()));
        };
        self.create(spec, false, Some(ask.trial));
        self.event(Line::new("bucket.created", name).went("", "trial"));
        Ok(Reply::Done(self.revision))
    }
}
