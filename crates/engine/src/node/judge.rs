//! Questions for `plan`: what this node would say of a bucket that is not registered, or not like this.
//!
//! Gate 3 is asked as before a start. Nothing is kept of it but until the one answer is given.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_model::session::ToLeader;
use sheaf_model::{BucketSpec, Check, ModuleRef, ModuleSpec, Revision};

use super::question::{Key, Question};
use super::{Action, NodeState};
use crate::gates::{self, Answer, Asked, CheckAnswer, Part};

/// Asked at a time; more are put off until some are answered.
const AT_ONCE: usize = super::question::AT_ONCE;

/// Questions that have no answer yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Judging {
    /// By numbers of this node's own: each leader begins to count anew, and checks may be under way for a former one's question.
    open: BTreeMap<u64, Asking>,
    put: u64,
}

#[derive(Clone, Debug)]
struct Asking {
    /// The leader's number.
    question: u64,
    spec: Arc<BucketSpec>,
    module: Arc<ModuleSpec>,
    /// Still to be asked.
    parts: Vec<Part>,
    lasting: Option<Answer>,
    admission: Option<Answer>,
}

impl Judging {
    pub(super) fn put(&mut self, question: u64, spec: Arc<BucketSpec>, module: Arc<ModuleSpec>) {
        let parts = vec![Part::Admission, Part::Lasting];
        self.put += 1;
        self.open.insert(self.put, Asking { question, spec, module, parts, lasting: None, admission: None });
    }

    /// Whether a bucket of this module is being asked about.
    pub(super) fn asks(&self, module: &ModuleRef) -> bool {
        self.open.values().any(|asking| asking.spec.module == *module)
    }

    /// The session broke: nobody waits for an answer.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    pub(super) fn answered(&mut self, number: u64, part: Part, answers: &[CheckAnswer]) {
        if let Some(asking) = self.open.get_mut(&number) {
            asking.put(part, Answer::of(answers));
        }
    }
}

impl Asking {
    fn put(&mut self, part: Part, answer: Answer) {
        match part {
            Part::Lasting => self.lasting = Some(answer),
            Part::Admission => self.admission = Some(answer),
        }
    }
}

impl NodeState {
    /// Asks what has not been asked, as far as there is room, and gives the answers that are complete.
    pub(super) fn judge_open(&mut self, out: &mut Vec<Action>) {
        let NodeState { judging, questions, here, retire, known, holdings, .. } = self;
        for (number, asking) in &mut judging.open {
            let name = &asking.spec.module.name;
            let allowed = gates::local_config(name, here).pass == Some(true);
            let path = holdings.path(known, &asking.spec.module, asking.module.uses_artifact());
            if path.is_err() {
                // A question does not wait: that its artifact is not here, or is being fetched, is the answer.
                for part in std::mem::take(&mut asking.parts) {
                    asking.put(part, Answer::Yes);
                }
            }
            while questions.has_room(AT_ONCE)
                && let Some(part) = asking.parts.pop()
            {
                let checks: Vec<Check> = gates::checks(&asking.module, part, allowed).cloned().collect();
                let plugin = gates::asks_plugin(&asking.module, part, allowed).then(|| asking.module.clone());
                if checks.is_empty() && plugin.is_none() {
                    asking.put(part, Answer::Yes);
                    continue;
                }
                let key = Key { question: Some(*number), ..Key::of(&asking.spec.module) };
                let bucket = Some((asking.spec.clone(), Revision::default()));
                let question = Question {
                    key,
                    part,
                    checks,
                    plugin,
                    bucket,
                    here: here.clone(),
                    artifact: path.clone().ok().flatten(),
                    user: asking.module.user.clone(),
                };
                questions.is_asked(&question);
                out.push(Action::Ask(question));
            }
        }
        let done = |asking: &Asking| asking.lasting.is_some() && asking.admission.is_some();
        let ready: Vec<u64> = judging.open.iter().filter(|(_, it)| done(it)).map(|(id, _)| *id).collect();
        for number in ready {
            let Some(asking) = judging.open.remove(&number) else { continue };
            let asked = Asked {
                lasting: asking.lasting.as_ref(),
                admission: asking.admission.as_ref(),
                equipment: holdings.equipment(known, &asking.spec.module, asking.module.uses_artifact()),
                ..Asked::default()
            };
            let second = gates::node_list_rules(&asking.spec.node_list_rules.compile(), here);
            let none = Revision::default();
            let verdict = gates::evaluate(&asking.spec, none, second, Some(&asking.module), here, asked);
            out.push(Action::Say(ToLeader::Judged { question: asking.question, verdict }));
            *retire = true;
        }
    }
}
