//! Choosing the node of a single-node bucket.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_model::{BucketName, Decision, Gate, NodeId, NodeName, Placement, Revision, clipped};

/// A node that could take the bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Its name, for people.
    pub name: NodeName,
    /// Single-node instances bound to it now.
    pub bound: u32,
    /// One-minute load average per core.
    pub load: f64,
    /// Value of the label to spread over, if any.
    pub zone: Option<String>,
    /// Single-node buckets of the same module bound in that zone.
    pub zone_bound: u32,
}

/// A choice and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The node.
    pub node: NodeId,
    /// What is recorded with the binding.
    pub decision: Decision,
}

/// How many runners-up are recorded.
const RUNNERS_UP: usize = 5;
/// How many different reasons of refusal are recorded.
const REASONS: usize = 12;
/// How many bytes of each reason are recorded. With those of the two below a decision stays under 4 KiB, whatever labels and
/// hostnames are called.
const REASON_BYTES: usize = 160;
/// How many bytes are recorded of what spoke for the node.
const WHY_BYTES: usize = 512;
/// How many bytes are recorded of what spoke against a runner-up.
const RUNNER_UP_BYTES: usize = 256;

/// Chooses among the available nodes; none if there is none. The same input gives the same choice.
///
/// `refusals` are those of all other nodes, `silent` the number of connected nodes that had not answered.
pub fn choose(
    bucket: &BucketName,
    basis: Revision,
    strategy: &Placement,
    candidates: &[Candidate],
    refusals: impl IntoIterator<Item = (Gate, Arc<str>)>,
    silent: u32,
) -> Option<Choice> {
    let mut ranked: Vec<(Rank, &Candidate)> =
        (candidates.iter()).map(|candidate| (rank(bucket, basis, strategy, candidate), candidate)).collect();
    let by_rank = |(a, _): &(Rank, &Candidate), (b, _): &(Rank, &Candidate)| {
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2))
    };
    if ranked.len() > RUNNERS_UP + 1 {
        ranked.select_nth_unstable_by(RUNNERS_UP, by_rank);
        ranked.truncate(RUNNERS_UP + 1);
    }
    ranked.sort_by(by_rank);
    let (_, first) = ranked.first()?;
    let why = format!("{strategy} among {} available: {}", candidates.len(), describe(strategy, first));
    let why = clipped(&why, WHY_BYTES).into_owned();
    let runners_up = (ranked.iter().skip(1))
        .map(|(_, candidate)| {
            (candidate.node, clipped(&describe(strategy, candidate), RUNNER_UP_BYTES).into_owned())
        })
        .collect();
    Some(Choice {
        node: first.node,
        decision: Decision { why, runners_up, refusals: counted(refusals), silent },
    })
}

/// Smaller is better: by zone, then by load, then by a hash that breaks ties the same way everywhere.
struct Rank(f64, f64, u64);

fn rank(bucket: &BucketName, basis: Revision, strategy: &Placement, candidate: &Candidate) -> Rank {
    let busy = f64::from(candidate.bound + 1) * (1.0 + candidate.load.max(0.0));
    let (zone, busy) = match strategy {
        Placement::LeastLoaded => (0.0, busy),
        Placement::Random => (0.0, 0.0),
        // A node without the label comes after every zone.
        Placement::Spread(_) if candidate.zone.is_none() => (f64::INFINITY, busy),
        Placement::Spread(_) => (f64::from(candidate.zone_bound), busy),
    };
    Rank(zone, busy, hash(bucket, basis, candidate.node))
}

fn describe(strategy: &Placement, candidate: &Candidate) -> String {
    let Candidate { name, bound, load, zone, zone_bound, .. } = candidate;
    match (strategy, zone) {
        (Placement::Random, _) => name.to_string(),
        (Placement::Spread(label), Some(zone)) => {
            format!(
                "{name} in {label}={zone} with {zone_bound} of this module there, {bound} bound, load {load:.2}"
            )
        }
        (Placement::Spread(label), None) => format!("{name} has no label {label}=…"),
        (Placement::LeastLoaded, _) => format!("{name} with {bound} bound, load {load:.2}"),
    }
}

fn counted(refusals: impl IntoIterator<Item = (Gate, Arc<str>)>) -> Vec<(Gate, String, u32)> {
    let mut counts: BTreeMap<(Gate, String), u32> = BTreeMap::new();
    for (gate, reason) in refusals {
        *counts.entry((gate, clipped(&reason, REASON_BYTES).into_owned())).or_default() += 1;
    }
    let mut counted: Vec<_> = counts.into_iter().map(|((gate, reason), n)| (gate, reason, n)).collect();
    counted.sort_by_key(|(.., n)| std::cmp::Reverse(*n));
    counted.truncate(REASONS);
    counted
}

/// FNV-1a, finished with a mix so that close inputs spread: <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn hash(bucket: &BucketName, basis: Revision, node: NodeId) -> u64 {
    let bytes = bucket.as_str().bytes().chain(basis.0.to_le_bytes()).chain(node.0.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(node: u64, bound: u32, load: f64, zone: Option<(&str, u32)>) -> Candidate {
        Candidate {
            node: NodeId(node),
            name: NodeName::new(&format!("n{node}")).expect("a node's name"),
            bound,
            load,
            zone: zone.map(|(zone, _)| zone.to_owned()),
            zone_bound: zone.map_or(0, |(_, bound)| bound),
        }
    }

    fn chosen(strategy: &Placement, candidates: &[Candidate]) -> Option<u64> {
        let bucket = BucketName::new("/logs/web").expect("a bucket's name");
        choose(&bucket, Revision(7), strategy, candidates, [], 0).map(|choice| choice.node.0)
    }

    #[test]
    fn nobody_available_is_no_choice() {
        assert_eq!(chosen(&Placement::LeastLoaded, &[]), None);
    }

    #[test]
    fn least_loaded_weighs_bindings_by_load() {
        let two_idle = [candidate(1, 2, 0.0, None), candidate(2, 1, 0.0, None)];
        assert_eq!(chosen(&Placement::LeastLoaded, &two_idle), Some(2));
        let one_busy = [candidate(1, 2, 0.0, None), candidate(2, 1, 3.0, None)];
        assert_eq!(chosen(&Placement::LeastLoaded, &one_busy), Some(1));
    }

    #[test]
    fn spread_prefers_the_emptier_zone_and_nodes_that_have_one() {
        let spread = Placement::Spread("zone".to_owned());
        let zones = [candidate(1, 0, 0.0, Some(("a", 2))), candidate(2, 9, 1.0, Some(("b", 1)))];
        assert_eq!(chosen(&spread, &zones), Some(2));
        let none = [candidate(1, 0, 0.0, None), candidate(2, 9, 9.0, Some(("b", 7)))];
        assert_eq!(chosen(&spread, &none), Some(2));
    }

    #[test]
    fn the_order_of_candidates_does_not_matter_and_ties_spread_over_nodes() {
        let mut nodes: Vec<Candidate> = (1..=5).map(|n| candidate(n, 0, 0.0, None)).collect();
        let first = chosen(&Placement::LeastLoaded, &nodes);
        nodes.reverse();
        assert_eq!(chosen(&Placement::LeastLoaded, &nodes), first);
        let spread: std::collections::BTreeSet<_> = (0..50)
            .filter_map(|n| {
                let bucket = BucketName::new(&format!("/b/{n}")).expect("a bucket's name");
                choose(&bucket, Revision(1), &Placement::Random, &nodes, [], 0).map(|c| c.node)
            })
            .collect();
        assert_eq!(spread.len(), 5, "every node is chosen by some bucket");
    }

    #[test]
    fn a_decision_is_under_4_kib_whatever_things_are_called() {
        let long = |n: u64, byte: &str| format!("{n}{}", byte.repeat(5000));
        let candidates: Vec<Candidate> = (1..=9)
            .map(|n| Candidate {
                name: NodeName::new(&"n".repeat(100)).expect("a node's name"),
                zone: Some(long(n, "ü")),
                ..candidate(n, u32::MAX - 1, 1e9, None)
            })
            .collect();
        let refusals = (0..40).map(|n| (Gate::CanRunOnThisNode, long(n, "é").into()));
        let bucket = BucketName::new("/a").expect("a bucket's name");
        let spread = Placement::Spread("l".repeat(200));
        let choice = choose(&bucket, Revision(1), &spread, &candidates, refusals, u32::MAX);
        let Decision { why, runners_up, refusals, .. } = choice.expect("one is available").decision;
        assert!(why.starts_with("spread:") && why.ends_with('…'), "{why}");
        assert_eq!((runners_up.len(), refusals.len()), (RUNNERS_UP, REASONS));
        // Beside the texts: their lengths, a number of a node or of refusals, a gate.
        let texts = why.len()
            + runners_up.iter().map(|(_, text)| text.len() + 12).sum::<usize>()
            + refusals.iter().map(|(_, text, _)| text.len() + 8).sum::<usize>();
        assert!(texts + 10 <= 4096, "{texts}");
    }

    #[test]
    fn refusals_are_counted_by_gate_and_reason() {
        let bucket = BucketName::new("/a").expect("a bucket's name");
        let refusals = [
            (Gate::LocalConfig, "no".into()),
            (Gate::NodeListRules, "x".repeat(1000).into()),
            (Gate::LocalConfig, "no".into()),
        ];
        let nodes = [candidate(1, 0, 0.0, None)];
        let choice = choose(&bucket, Revision(1), &Placement::LeastLoaded, &nodes, refusals, 3);
        let decision = choice.expect("one is available").decision;
        assert_eq!(decision.refusals[0], (Gate::LocalConfig, "no".to_owned(), 2));
        assert_eq!(decision.refusals[1].1.len(), REASON_BYTES);
        assert_eq!(decision.silent, 3);
    }
}
