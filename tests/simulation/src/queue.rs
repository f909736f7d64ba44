//! What will happen, in the order in which it will: by time, and at the same time in the order in which it was posted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::Time;
use crate::event::Event;

/// Events are large and there are many: they stay where they are, only their places are put in order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    order: BinaryHeap<Reverse<(Time, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    posted: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Time, event: Event) {
        self.posted += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.events[place] = Some(event);
                place
            }
            None => {
                self.events.push(Some(event));
                self.events.len() - 1
            }
        };
        self.order.push(Reverse((at, self.posted, place)));
    }

    pub(crate) fn pop(&mut self) -> Option<(Time, Event)> {
        let Reverse((at, _, place)) = self.order.pop()?;
        self.free.push(place);
        Some((at, self.events[place].take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{AtWorld, Process, What};

    #[test]
    fn first_by_time_then_as_posted() {
        let event = |life| Event {
            to: Process::World,
            life,
            due: None,
            waited: false,
            what: What::World(AtWorld::Fault),
        };
        let mut queue = Queue::default();
        for (at, number) in [(5, 0), (3, 1), (5, 2), (3, 3)] {
            queue.push(at, event(number));
        }
        let (first, _) = queue.pop().map(|(at, it)| (it.life, at)).unwrap_or_default();
        queue.push(4, event(4));
        let rest: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|(_, it)| it.life).collect();
        assert_eq!((first, rest), (1, vec![3, 4, 0, 2]));
    }
}
