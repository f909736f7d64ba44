//! Which subtasks of a job depend on which: fixed once the job is there.

use serde::{Deserialize, Serialize};

/// The dependencies of a job's subtasks, both ways, each as one list of all and where each subtask's part of it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependencies {
    needs: Edges,
    /// The other way round.
    feeds: Edges,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Edges {
    /// Where the part of each subtask begins, and the end of the last.
    begins: Vec<u32>,
    ends: Vec<u32>,
}

impl Edges {
    /// Of pairs that are sorted by their first.
    fn of(count: u32, pairs: impl ExactSizeIterator<Item = (u32, u32)>) -> Self {
        let mut begins = Vec::with_capacity(count as usize + 1);
        let mut ends = Vec::with_capacity(pairs.len());
        for (from, to) in pairs {
            while begins.len() <= from as usize {
                begins.push(index(ends.len()));
            }
            ends.push(to);
        }
        begins.resize(count as usize + 1, index(ends.len()));
        Self { begins, ends }
    }

    fn from(&self, subtask: u32) -> &[u32] {
        let at = |n: u32| self.begins.get(n as usize).map(|place| *place as usize);
        let part = at(subtask).zip(subtask.checked_add(1).and_then(at));
        part.and_then(|(begin, end)| self.ends.get(begin..end)).unwrap_or_default()
    }
}

fn index(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// Most dependencies of one job.
pub const DEPENDENCIES_MAX: usize = 100_000_000;

impl Dependencies {
    /// Of `count` subtasks, from pairs of a subtask and one it depends on, sorted, each pair once.
    /// The error is a cycle: each subtask of it depends on the next, and the last on the first.
    pub fn new(count: u32, needs: &[(u32, u32)]) -> Result<Self, Vec<u32>> {
        let mut feeds: Vec<(u32, u32)> = needs.iter().map(|(subtask, on)| (*on, *subtask)).collect();
        feeds.sort_unstable();
        let (needs, feeds) = (Edges::of(count, needs.iter().copied()), Edges::of(count, feeds.into_iter()));
        let all = Self { needs, feeds };
        match all.cycle(count) {
            None => Ok(all),
            Some(cycle) => Err(cycle),
        }
    }

    /// What a subtask depends on.
    pub fn needs(&self, subtask: u32) -> &[u32] {
        self.needs.from(subtask)
    }

    /// What depends on a subtask.
    pub fn feeds(&self, subtask: u32) -> &[u32] {
        self.feeds.from(subtask)
    }

    /// Subtasks that depend on any, with how many they depend on.
    pub fn dependents(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let widths = self.needs.begins.windows(2).map(|two| two[1] - two[0]);
        (0_u32..).zip(widths).filter(|(_, width)| *width > 0)
    }

    /// Takes away what depends on nothing, again and again (Kahn 1962); of what stays, every one depends on another.
    fn cycle(&self, count: u32) -> Option<Vec<u32>> {
        if (0..count).all(|subtask| self.needs(subtask).iter().all(|on| *on < subtask)) {
            return None; // As most are written: each after what it depends on.
        }
        let mut left: Vec<u32> = (0..count).map(|subtask| index(self.needs(subtask).len())).collect();
        let mut free: Vec<u32> = (0..count).filter(|subtask| left[*subtask as usize] == 0).collect();
        while let Some(subtask) = free.pop() {
            for next in self.feeds(subtask) {
                let left = &mut left[*next as usize];
                *left -= 1;
                if *left == 0 {
                    free.push(*next);
                }
            }
        }
        let start = (0..count).find(|subtask| left[*subtask as usize] > 0)?;
        // Each step stays among those that are left, so some subtask comes twice.
        let (mut way, mut place, mut at) = (Vec::new(), vec![None; count as usize], start);
        while place[at as usize].is_none() {
            place[at as usize] = Some(way.len());
            way.push(at);
            at = self.needs(at).iter().copied().find(|on| left[*on as usize] > 0)?;
        }
        let mut cycle = way.split_off(place[at as usize]?);
        let least =
            cycle.iter().enumerate().min_by_key(|(_, subtask)| **subtask).map_or(0, |(place, _)| place);
        cycle.rotate_left(least);
        Some(cycle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_found_both_ways() {
        let all = Dependencies::new(5, &[(2, 0), (2, 1), (4, 2)]).unwrap();
        assert_eq!(
            (all.needs(2), all.needs(4), all.needs(0), all.needs(9)),
            (&[0, 1][..], &[2][..], &[][..], &[][..])
        );
        assert_eq!(
            (all.feeds(0), all.feeds(1), all.feeds(2), all.feeds(4)),
            (&[2][..], &[2][..], &[4][..], &[][..])
        );
        assert_eq!(all.dependents().collect::<Vec<_>>(), [(2, 2), (4, 1)]);
    }

    /// J10
    #[test]
    fn j10_a_diamond_is_in_order_and_a_cycle_is_named() {
        let wide = 10_000;
        let mut diamond: Vec<(u32, u32)> = (1..=wide).map(|middle| (middle, 0)).collect();
        diamond.extend((1..=wide).map(|middle| (wide + 1, middle)));
        assert!(Dependencies::new(wide + 2, &diamond).is_ok());
        // The other way round, so that the quick look does not tell.
        let mut upside: Vec<(u32, u32)> = (1..=wide).map(|middle| (0, middle)).collect();
        upside.extend((1..=wide).map(|middle| (middle, wide + 1)));
        assert!(Dependencies::new(wide + 2, &upside).is_ok());
        upside.push((wide + 1, 7));
        assert_eq!(Dependencies::new(wide + 2, &upside), Err(vec![7, wide + 1]));
        assert_eq!(Dependencies::new(4, &[(1, 2), (2, 3), (3, 1)]), Err(vec![1, 2, 3]));
        assert_eq!(Dependencies::new(2, &[(1, 1)]), Err(vec![1]));
    }
}
