//! Jobs that are submitted together: each after those that it comes after.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_model::{Defect, JobName, JobSpec};

/// The places of `jobs` in an order in which each one comes after those of them that it names, and otherwise in the order given.
/// The error is a cycle, as places: each of them comes after the next, and the last after the first.
pub(super) fn order(jobs: &[&JobSpec]) -> Result<Vec<usize>, Vec<usize>> {
    let places: BTreeMap<&JobName, usize> =
        jobs.iter().enumerate().map(|(place, job)| (&job.name, place)).collect();
    let needs: Vec<BTreeSet<usize>> = (jobs.iter())
        .map(|job| job.after.iter().filter_map(|other| places.get(other).copied()).collect())
        .collect();
    let mut feeds = vec![Vec::new(); jobs.len()];
    for (place, needed) in needs.iter().enumerate() {
        needed.iter().for_each(|other| feeds[*other].push(place));
    }
    let mut open: Vec<usize> = needs.iter().map(BTreeSet::len).collect();
    let mut free: BTreeSet<usize> = (0..jobs.len()).filter(|place| open[*place] == 0).collect();
    let mut ordered = Vec::with_capacity(jobs.len());
    while let Some(place) = free.pop_first() {
        ordered.push(place);
        for other in &feeds[place] {
            open[*other] -= 1;
            if open[*other] == 0 {
                free.insert(*other);
            }
        }
    }
    match (0..jobs.len()).find(|place| open[*place] > 0) {
        None => Ok(ordered),
        Some(start) => Err(cycle(&needs, &open, start)),
    }
}

/// Of those that are left each needs another that is left, so that some place comes twice on the way from any of them.
fn cycle(needs: &[BTreeSet<usize>], open: &[usize], start: usize) -> Vec<usize> {
    let (mut way, mut at) = (Vec::new(), start);
    while !way.contains(&at) {
        way.push(at);
        let next = needs[at].iter().copied().find(|other| open[*other] > 0);
        at = next.unwrap_or(at);
    }
    let begin = way.iter().position(|place| *place == at).unwrap_or(0);
    let mut cycle = way.split_off(begin);
    let least = cycle.iter().enumerate().min_by_key(|(_, place)| **place).map_or(0, |(at, _)| at);
    cycle.rotate_left(least);
    cycle
}

/// A cycle in words, said of its first job.
pub(super) fn defect(jobs: &[&JobSpec], cycle: &[usize]) -> Defect {
    let name = |place: &usize| jobs.get(*place).map(|job| job.name.as_str()).unwrap_or_default();
    let mut names: Vec<&str> = cycle.iter().map(name).collect();
    names.extend(names.first().copied());
    let problem = format!("a cycle: each of these jobs comes after the next: {}", names.join(" → "));
    let label = format!("Job {}", names.first().copied().unwrap_or_default());
    Defect::new("after", problem, "jobs that come after one another without a cycle").of(label)
}

#[cfg(test)]
mod tests {
    use sheaf_model::{ArrayRange, ModuleRef, Subtasks};

    use super::*;

    fn job(named: &str, after: &[&str]) -> JobSpec {
        let range = ArrayRange { first: 0, last: 0, step: 1 };
        let name = |name: &str| JobName::new(name).expect("a name");
        let module = ModuleRef::parse("m").expect("a module");
        let mut spec = JobSpec::new(name(named), module, Subtasks::Array(range));
        spec.after = after.iter().map(|other| name(other)).collect();
        spec
    }

    fn ordered(all: &[(&str, &[&str])]) -> Result<Vec<String>, String> {
        let jobs: Vec<JobSpec> = all.iter().map(|(name, after)| job(name, after)).collect();
        let jobs: Vec<&JobSpec> = jobs.iter().collect();
        match order(&jobs) {
            Ok(places) => Ok(places.into_iter().map(|place| jobs[place].name.to_string()).collect()),
            Err(cycle) => Err(defect(&jobs, &cycle).to_string()),
        }
    }

    #[test]
    fn each_job_comes_after_those_that_it_names() {
        assert_eq!(
            ordered(&[("c", &["b", "elsewhere"]), ("b", &["a", "a"]), ("a", &[])]).unwrap(),
            ["a", "b", "c"]
        );
        assert_eq!(ordered(&[("a", &[]), ("c", &[]), ("b", &["c"])]).unwrap(), ["a", "c", "b"], "as written");
        assert_eq!(ordered(&[]).unwrap(), [""; 0]);
    }

    #[test]
    fn a_cycle_is_told_with_its_members() {
        let told = ordered(&[("z", &["b"]), ("a", &["c"]), ("b", &["a", "z"]), ("c", &["b"])]).unwrap_err();
        let wanted = "Job z: after: a cycle: each of these jobs comes after the next: z → b → z; \
                      jobs that come after one another without a cycle";
        assert_eq!(told, wanted, "of two cycles one is told");
        let told = ordered(&[("first", &[]), ("a", &["c"]), ("b", &["a"]), ("c", &["b"])]).unwrap_err();
        assert!(told.starts_with("Job a: after: a cycle") && told.contains("a → c → b → a"), "{told}");
        assert!(ordered(&[("a", &["a"])]).unwrap_err().contains("a → a"));
    }
}
