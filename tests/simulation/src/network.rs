//! The network: what it loses, delays, doubles and cuts. Connections on it keep their order or break.

use std::collections::{BTreeMap, VecDeque};

use crate::clock::{MS, Time};
use crate::event::{Process, Words};
use crate::random::Random;

/// Later than any message that is not held up.
const LATE: Time = 20 * MS;

/// How messages fare.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// One-way cuts, each counted as often as it was made.
    cuts: BTreeMap<(usize, usize), u32>,
    /// Of 1000 messages, always.
    pub(crate) loss: u64,
    /// Of 1000 messages, on top, while there is noise.
    pub(crate) noise: u64,
    /// Nothing is lost or late any more.
    calm: bool,
    pub(crate) conns: BTreeMap<u64, Conn>,
    next: u64,
    /// What became of messages that nobody had cut off.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) late: u64,
}

/// A connection. End 0 opened it.
#[derive(Clone, Debug)]
pub(crate) struct Conn {
    pub(crate) ends: [(Process, u64); 2],
    pub(crate) open: [bool; 2],
    /// When the last message towards each end arrives.
    last: [Time; 2],
    /// What waits for a cut to end, towards each end.
    pub(crate) stalled: [VecDeque<Words>; 2],
    pub(crate) tries: [u32; 2],
}

impl Network {
    pub(crate) fn new(loss: u64) -> Self {
        let (cuts, conns) = (BTreeMap::new(), BTreeMap::new());
        Self { cuts, loss, noise: 0, calm: false, conns, next: 1, lost: 0, doubled: 0, late: 0 }
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        *self.cuts.entry((from, to)).or_default() += 1;
    }

    pub(crate) fn mend(&mut self, from: usize, to: usize) {
        if let Some(count) = self.cuts.get_mut(&(from, to)) {
            *count -= 1;
            if *count == 0 {
                self.cuts.remove(&(from, to));
            }
        }
    }

    pub(crate) fn mend_all(&mut self) {
        self.cuts.clear();
        self.noise = 0;
    }

    /// From now on every message comes, and soon.
    pub(crate) fn calm_down(&mut self) {
        self.calm = true;
        self.loss = 0;
        self.noise = 0;
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    /// When the copies of a datagram arrive, counted from now: none, one, or more.
    pub(crate) fn datagram(&mut self, random: &mut Random, from: usize, to: usize) -> Vec<Time> {
        if self.is_cut(from, to) {
            return Vec::new();
        }
        let mut copies = Vec::new();
        if !random.chance(self.loss + self.noise) {
            copies.push(self.delay(random, from, to));
        }
        if random.chance(10 + self.noise / 2) {
            copies.push(self.delay(random, from, to));
        }
        self.lost += u64::from(copies.is_empty());
        self.doubled += u64::from(copies.len() > 1);
        self.late += copies.iter().filter(|delay| **delay >= LATE).count() as u64;
        copies
    }

    fn delay(&self, random: &mut Random, from: usize, to: usize) -> Time {
        if from == to {
            return random.between(20, 200);
        }
        if self.calm {
            return random.between(200, 4 * MS);
        }
        match random.below(1000) {
            0..3 => random.between(500 * MS, 6000 * MS),
            n if n < 20 + self.noise => random.between(20 * MS, 800 * MS),
            _ => random.between(200, 4 * MS),
        }
    }

    /// Opens a connection between two lives of processes.
    pub(crate) fn connect(&mut self, opener: (Process, u64), other: (Process, u64)) -> u64 {
        let number = self.next;
        self.next += 1;
        let stalled = [VecDeque::new(), VecDeque::new()];
        let ends = [opener, other];
        self.conns.insert(number, Conn { ends, open: [true; 2], last: [0; 2], stalled, tries: [0; 2] });
        number
    }

    /// When a message that keeps its order arrives, as true time. What is lost is sent again and comes later.
    pub(crate) fn in_order(
        &mut self,
        random: &mut Random,
        conn: u64,
        towards: usize,
        (from, to): (usize, usize),
        now: Time,
    ) -> Time {
        let mut delay = self.delay(random, from, to).min(2000 * MS);
        let mut again = 200 * MS;
        while random.chance((self.loss + self.noise).min(900)) && again < 2000 * MS {
            delay += again;
            again *= 2;
        }
        let at = now + delay;
        let Some(conn) = self.conns.get_mut(&conn) else { return at };
        let at = at.max(conn.last[towards] + 1);
        conn.last[towards] = at;
        at
    }
}

impl Conn {
    /// Which end a process is; none: this is not its connection, or was in another life.
    pub(crate) fn end_of(&self, process: Process, life: u64) -> Option<usize> {
        self.ends.iter().position(|end| *end == (process, life))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_way_cut_stops_one_way_and_is_mended_as_often_as_made() {
        let mut network = Network::new(0);
        let mut random = Random::new(1);
        network.cut(0, 1);
        network.cut(0, 1);
        network.mend(0, 1);
        assert!(network.datagram(&mut random, 0, 1).is_empty());
        assert!(!network.datagram(&mut random, 1, 0).is_empty());
        network.mend(0, 1);
        assert!(!network.datagram(&mut random, 0, 1).is_empty());
    }

    #[test]
    fn in_the_end_nothing_is_lost_or_late() {
        let mut network = Network::new(500);
        let mut random = Random::new(1);
        network.calm_down();
        let conn = network.connect((Process::Agent(0), 0), (Process::Voter(1), 0));
        for now in (0..).step_by(10_000).take(500) {
            let copies = network.datagram(&mut random, 0, 1);
            assert!(!copies.is_empty() && copies.iter().all(|delay| *delay < LATE), "{copies:?}");
            assert!(network.in_order(&mut random, conn, 1, (0, 1), now) < now + LATE);
        }
        assert_eq!((network.lost, network.late), (0, 0));
    }

    #[test]
    fn a_connection_keeps_its_order() {
        let mut network = Network::new(300);
        let mut random = Random::new(2);
        let conn = network.connect((Process::Agent(0), 0), (Process::Voter(1), 0));
        let mut last = 0;
        for now in 0..200 {
            let at = network.in_order(&mut random, conn, 1, (0, 1), now);
            assert!(at > last);
            last = at;
        }
    }
}
