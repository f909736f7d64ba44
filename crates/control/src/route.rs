//! Where a call goes that arrived at this node.

use sheaf_wire::{Class, Route, Target};

/// Before there is a leader this node says what it knows, instead of letting people wait.
const STATUS: &str = "/sheaf.v1.ClusterService/Status";

use crate::Control;

impl Route for Control {
    fn target(&self, class: Class, path: &str) -> Target {
        let place = &self.place;
        let member = place.member();
        match class {
            Class::Own | Class::Here => Target::Local,
            // Whoever asks a node that was forgotten is told so, and not what others know: it is to be seen that it is of
            // no use any more.
            Class::Read | Class::LiveRead if place.has_left() && member.is_some() => Target::Local,
            _ if place.has_left() => Target::Unavailable(place.left_text()),
            Class::Change if place.leads() => Target::Local,
            Class::Change => match place.leader_contact() {
                Some(leader) => Target::To(leader),
                None => Target::Unavailable(self.no_leader()),
            },
            Class::LiveRead => match (place.leads(), place.leader_contact(), member) {
                (true, ..) => Target::Local,
                (false, Some(leader), _) => Target::To(leader),
                (false, None, Some(_)) => Target::Local,
                (false, None, None) if path == STATUS => Target::Local,
                (false, None, None) => self.to_any_member(),
            },
            Class::Read => match member {
                Some(_) => Target::Local,
                None => self.to_any_member(),
            },
        }
    }

    /// A member hears of its leader by itself.
    fn failed(&self) {
        if self.place.member().is_none() {
            self.place.doubted.notify_one();
        }
    }
}

impl Control {
    fn to_any_member(&self) -> Target {
        match &self.place.members.borrow().member {
            Some(member) => Target::To(member.clone()),
            None => Target::Unavailable(self.no_leader()),
        }
    }

    fn no_leader(&self) -> String {
        let waiting = self.place.waiting_for.borrow();
        match (self.place.registration.borrow().is_some(), waiting.is_empty()) {
            (_, false) => waiting.clone(),
            (true, true) => {
                "the cluster has no leader now (no quorum, or an election is under way)".to_owned()
            }
            (false, true) => "this node belongs to no cluster yet".to_owned(),
        }
    }
}
