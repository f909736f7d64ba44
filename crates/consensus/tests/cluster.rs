//! Three replicas in one process: what consensus promises to the rest of Sheaf.

#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use futures::future::join_all;
use harness::{Cluster, patient, proposal, quick};
use sheaf_consensus::{MembershipError, Options, ProposeError, ReadError, Replica, VERSION};
use sheaf_model::{NodeId, Revision, Term};

#[tokio::test(flavor = "multi_thread")]
async fn proposals_made_at_once_are_applied_once_each_and_everywhere() {
    for streams in [false, true] {
        let mut cluster = Cluster::of_three(streams, quick).await;
        let leader = cluster.leader().await;
        let before = leader.state().revision;
        let applied = join_all((0..500).map(|n| {
            let leader = leader.clone();
            async move { leader.propose(&proposal(n)).await.unwrap().revision }
        }))
        .await;
        let revisions: BTreeSet<Revision> = applied.iter().copied().collect();
        assert_eq!(revisions.len(), 500, "each proposal has a revision of its own");
        assert_eq!(revisions.last(), Some(&Revision(before.0 + 500)));
        cluster.agree(Revision(before.0 + 500)).await;
        assert!(leader.metrics().last.unwrap() < 300, "concurrent proposals share entries");
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_takes_no_proposal_and_names_the_leader() {
    let mut cluster = Cluster::of_three(true, quick).await;
    let leader = cluster.leader().await.node();
    let follower = cluster.members[cluster.follower(leader)].replica().clone();
    follower.leadership().wait_for(|now| now.leader == Some(leader)).await.unwrap();
    let refused = follower.propose(&proposal(1)).await.unwrap_err();
    assert_eq!(refused, ProposeError::NotLeader { leader: Some(leader) });
    let refused = follower.confirm_leadership().await.unwrap_err();
    assert_eq!(refused, ReadError::NotLeader { leader: Some(leader) });
    let refused = follower.add_learner(NodeId(9), "node-9").await.unwrap_err();
    assert!(matches!(refused, MembershipError::NotLeader { leader: Some(named), .. } if named == leader));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_of_another_term_is_refused() {
    let mut cluster = Cluster::of_three(true, quick).await;
    let leader = cluster.leader().await;
    let term = leader.confirm_leadership().await.unwrap();
    assert_eq!(leader.propose_in_term(term, &proposal(1)).await.unwrap().term, term);
    let other = Term(term.0 - 1);
    let refused = leader.propose_in_term(other, &proposal(2)).await.unwrap_err();
    assert_eq!(refused, ProposeError::WrongTerm { asked: other, current: term });
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_on_a_follower_sees_what_was_acknowledged_before_it() {
    let mut cluster = Cluster::of_three(true, quick).await;
    let leader = cluster.leader().await;
    let follower = cluster.members[cluster.follower(leader.node())].replica().clone();
    follower.leadership().wait_for(|now| now.leader == Some(leader.node())).await.unwrap();
    for n in 0..20 {
        let acknowledged = leader.propose(&proposal(n)).await.unwrap().revision;
        let read = follower.read_index().await.unwrap();
        assert!(read >= acknowledged);
        assert!(follower.state().revision >= acknowledged);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_confirms_nothing_before_it_has_applied_what_was_acknowledged() {
    let mut cluster = Cluster::of_three(true, quick).await;
    for n in 0..10 {
        let leader = cluster.leader().await;
        let heir = cluster.members[cluster.follower(leader.node())].replica().clone();
        // The heir has the entry, but has not heard that it is committed.
        let acknowledged = leader.propose(&proposal(n)).await.unwrap().revision;
        leader.transfer_leader(heir.node()).await.unwrap();
        heir.leadership().wait_for(|now| now.leading).await.unwrap();
        heir.confirm_leadership().await.unwrap();
        assert!(heir.state().revision >= acknowledged, "in round {n}");
    }
    cluster.stop().await;
}

/// What a majority has answered may come late: by then another leads, and has acknowledged what this one does not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_confirms_nothing_to_who_asked_after_it_began() {
    let mut cluster = Cluster::of_three(true, patient).await;
    let old = cluster.leader().await;
    let heir = cluster.members[cluster.follower(old.node())].replica().clone();
    let newest = old.propose(&proposal(1)).await.unwrap().revision;
    cluster.agree(newest).await;
    cluster.mesh.hold(old.node());
    let first = {
        let old = old.clone();
        tokio::spawn(async move { old.confirm_leadership().await })
    };
    cluster.mesh.holds(2).await;

    cluster.mesh.deafen(old.node());
    old.transfer_leader(heir.node()).await.unwrap();
    heir.leadership().wait_for(|now| now.leading).await.unwrap();
    heir.confirm_leadership().await.unwrap();
    heir.propose(&proposal(2)).await.unwrap();
    let mut second = pin!(old.confirm_leadership());
    assert!(futures::poll!(second.as_mut()).is_pending(), "it waits for a round of its own");
    cluster.mesh.release();
    let first = first.await.unwrap();
    assert!(first.is_ok(), "a majority answered before it voted for another: {first:?}");
    let second = tokio::time::timeout(Duration::from_secs(15), second).await.expect("a round of its own");
    assert!(second.is_err(), "another leads, and has acknowledged more: {second:?}");
    cluster.mesh.heal();
    cluster.stop().await;
}

/// Returns when this leader knows that all members have all its entries.
async fn all_have_all(leader: &Replica) {
    let known = async {
        while leader.metrics().members.iter().any(|member| member.match_lag != Some(0)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), known).await.expect("all have all entries within 15 s");
}

/// The heir is told that the leader hands over to it, and stands for election. The leader has said nothing of that kind, and
/// goes on as one.
async fn depose(leader: &Replica, heir: &Replica) {
    /// The message's second byte.
    const TRANSFER: u8 = 4;
    let vote = (leader.metrics().term.0, leader.node().0, true);
    let message = (vote, heir.node().0, None::<()>);
    let message = postcard::to_extend(&message, vec![VERSION, TRANSFER]).unwrap();
    let there = heir.clone();
    let handled = heir.runtime().spawn(async move { there.handle_peer(message.into()).await });
    handled.await.unwrap().unwrap();
    heir.leadership().wait_for(|now| now.leading).await.unwrap();
}

/// What follows an entry on its stream says that it is committed, and ends with the same entry. It may be sent when another
/// leads already, while answers to the entry are still on their way from before.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_entries_is_none_to_what_was_sent_since() {
    let mut cluster = Cluster::of_three(true, patient).await;
    let old = cluster.leader().await;
    let heir = cluster.members[cluster.follower(old.node())].replica().clone();
    let (from, peers) = (old.node(), [heir.node(), NodeId(6 - old.node().0 - heir.node().0)]);
    let mesh = cluster.mesh.clone();
    let newest = old.propose(&proposal(1)).await.unwrap().revision;
    cluster.agree(newest).await;
    all_have_all(&old).await;
    for peer in peers {
        mesh.line(from, peer, |line| line.heard == line.asked).await;
    }

    mesh.hold(from);
    mesh.hold_entries(from);
    let entry = {
        let old = old.clone();
        tokio::spawn(async move { old.propose(&proposal(2)).await })
    };
    for peer in peers {
        mesh.line(from, peer, |line| line.answered == line.heard + 1).await;
    }
    mesh.deafen(from);
    depose(&old, &heir).await;
    heir.confirm_leadership().await.unwrap();
    heir.propose(&proposal(3)).await.unwrap();

    let mut read = pin!(old.confirm_leadership());
    assert!(futures::poll!(read.as_mut()).is_pending());
    mesh.holds(2).await;
    mesh.let_through(from, peers[0]);
    entry.await.unwrap().expect("a majority has it");
    mesh.line(from, peers[1], |line| line.asked == line.heard + 2).await;
    mesh.let_through(from, peers[1]);
    all_have_all(&old).await;

    // All other answers say that another leads.
    mesh.release();
    let mut leadership = old.leadership();
    let deposed = tokio::time::timeout(Duration::from_secs(15), leadership.wait_for(|now| !now.leading));
    assert!(deposed.await.is_ok(), "it learns that another leads");
    let read = futures::poll!(read);
    assert!(!matches!(read, Poll::Ready(Ok(_))), "another leads, and has acknowledged more: {read:?}");
    mesh.heal();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_go_over_one_stream_to_each_member() {
    let mut cluster = Cluster::of_three(true, patient).await;
    let leader = cluster.leader().await;
    let mesh = &cluster.mesh;
    let seen = || [&mesh.beats, &mesh.beating, &mesh.appends].map(|count| count.load(Ordering::Relaxed));
    let [beats, beating, appends] = seen();
    for _ in 0..50 {
        leader.confirm_leadership().await.unwrap();
    }
    let now = seen();
    assert!(now[0] - beats >= 50, "each round of a read is heartbeats: {now:?}");
    assert!(now[1] - beating <= 2, "streams are kept: {now:?}");
    assert_eq!(now[2], appends, "none went by a call");

    // A member that comes back is told over another one, at once.
    let away = cluster.follower(leader.node());
    cluster.members[away].stop(&cluster.mesh).await;
    cluster.members[away].start(&cluster.setting, &cluster.mesh).await;
    let other = 6 - leader.node().0 - cluster.members[away].node.0;
    cluster.mesh.cut(NodeId(other));
    leader.confirm_leadership().await.unwrap();
    assert_eq!(cluster.mesh.appends.load(Ordering::Relaxed), appends, "none went by a call");
    cluster.mesh.heal();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_restarts_and_has_everything_again() {
    let mut cluster = Cluster::of_three(true, quick).await;
    let leader = cluster.leader().await;
    let away = cluster.follower(leader.node());
    for n in 0..10 {
        leader.propose(&proposal(n)).await.unwrap();
    }
    cluster.members[away].stop(&cluster.mesh).await;
    let mut newest = Revision(0);
    for n in 10..20 {
        newest = leader.propose(&proposal(n)).await.unwrap().revision;
    }
    cluster.members[away].start(&cluster.setting, &cluster.mesh).await;
    cluster.agree(newest).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_members_restart_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::of_three(true, quick).await;
    let (mut newest, mut former) = (Revision(0), Term(0));
    for round in 0..3 {
        let leader = cluster.leader().await;
        let term = leader.confirm_leadership().await.unwrap();
        assert!(term > former, "a leader that restarted is not leader of the same term");
        former = term;
        assert!(leader.state().revision >= newest);
        for n in 0..20 {
            newest = leader.propose(&proposal(100 * round + n)).await.unwrap().revision;
        }
        drop(leader);
        cluster.stop().await;
        for member in &mut cluster.members {
            member.start(&cluster.setting, &cluster.mesh).await;
        }
    }
    cluster.leader().await;
    cluster.agree(newest).await;
    cluster.stop().await;
}

fn eager_snapshots(dir: std::path::PathBuf) -> Options {
    Options { snapshot_every: 50, keep_entries: 10, ..quick(dir) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_away_for_many_entries_catches_up_by_a_snapshot() {
    let mut cluster = Cluster::of_three(true, eager_snapshots).await;
    let leader = cluster.leader().await;
    let away = cluster.follower(leader.node());
    let (node, replica) = (cluster.members[away].node, cluster.members[away].replica().clone());
    let mut cursor = replica.changes(replica.state().revision);
    cluster.mesh.cut(node);
    let mut newest = Revision(0);
    for n in 0..400 {
        newest = leader.propose(&proposal(n)).await.unwrap().revision;
    }
    let behind = replica.metrics().last.unwrap();
    assert!(leader.metrics().durable.unwrap() > behind + 100, "the log is cut behind what SQLite has");
    // What a message on its way holds is cut off a little later.
    let cut = async {
        while leader.metrics().purged.is_none_or(|purged| purged <= behind) {
            newest = leader.propose(&proposal(500)).await.unwrap().revision;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), cut).await.expect("the log is cut");
    let refused = cluster.mesh.refused.load(Ordering::Relaxed);
    let tried = async {
        while cluster.mesh.refused.load(Ordering::Relaxed) < refused + 10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), tried).await.expect("it is tried again and again");
    let uploads = cluster.mesh.uploads.load(Ordering::Relaxed);
    assert_eq!(uploads, 0, "the database is not copied for a member that does not answer");
    cluster.mesh.heal();
    cluster.agree(newest).await;
    assert!(replica.metrics().durable.unwrap() > behind + 100, "it came as a snapshot");
    let lagged = tokio::time::timeout(Duration::from_secs(5), cursor.next(10)).await.unwrap();
    assert!(lagged.is_err(), "a watcher there starts again");

    // What was installed is what a restart finds, and the log goes on from it.
    drop((replica, cursor));
    cluster.members[away].stop(&cluster.mesh).await;
    newest = leader.propose(&proposal(1000)).await.unwrap().revision;
    cluster.members[away].start(&cluster.setting, &cluster.mesh).await;
    cluster.agree(newest).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_is_cut_off_another_leads_and_the_old_one_confirms_nothing() {
    let mut cluster = Cluster::of_three(true, quick).await;
    let old = cluster.leader().await;
    let acknowledged = old.propose(&proposal(1)).await.unwrap();
    cluster.mesh.cut(old.node());
    let doubtful = {
        let old = old.clone();
        tokio::spawn(async move { old.propose(&proposal(2)).await })
    };
    assert!(old.confirm_leadership().await.is_err());
    let new = cluster.leader().await;
    assert_ne!(new.node(), old.node());
    let later = new.propose(&proposal(3)).await.unwrap();
    assert!(later.term > acknowledged.term);
    cluster.mesh.heal();
    let doubtful = doubtful.await.unwrap();
    assert!(
        matches!(doubtful, Err(ProposeError::Unknown { .. } | ProposeError::NotLeader { .. })),
        "what no majority had is not acknowledged: {doubtful:?}"
    );
    cluster.agree(later.revision).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_on_request() {
    let mut cluster = Cluster::of_three(true, quick).await;
    let old = cluster.leader().await;
    let heir = cluster.members[cluster.follower(old.node())].replica().clone();
    old.transfer_leader(heir.node()).await.unwrap();
    let handed = tokio::time::timeout(Duration::from_secs(5), async {
        heir.leadership().wait_for(|now| now.leading).await.unwrap();
        heir.confirm_leadership().await.unwrap();
    });
    handed.await.expect("the heir leads");
    heir.propose(&proposal(1)).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_starts_from_the_state_misses_nothing() {
    let mut cluster = Cluster::of_three(true, quick).await;
    let leader = cluster.leader().await;
    let follower = cluster.members[cluster.follower(leader.node())].replica().clone();
    let proposing = tokio::spawn(async move {
        let mut newest = Revision(0);
        for n in 0..200 {
            newest = leader.propose(&proposal(n)).await.unwrap().revision;
        }
        newest
    });
    let mut seen = follower.state().clone();
    let mut cursor = follower.changes(seen.revision);
    let newest = proposing.await.unwrap();
    while seen.revision < newest {
        for set in cursor.next(7).await.unwrap() {
            assert!(set.revision > seen.revision);
            set.changes.iter().for_each(|change| seen.put(change));
            seen.revision = set.revision;
        }
    }
    assert!(seen == *follower.state());
    cluster.stop().await;
}
