//! Jobs: whose turn it is, where, and who has to make room.

use sheaf_tests::jobs::{job, submit};
use sheaf_tests::{Cases, Cluster};

use crate::jobs::reconciled;

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("jobs that no node may run hold up no other, however many they are", || held_up(cluster));
}

fn held_up(cluster: &Cluster) {
    let names: Vec<String> = (0..65).map(|number| format!("stuck-{number:02}")).collect();
    let document = |name: &String| format!("---\n{}", job(name, "nowhere", "subtasks: {array: 0-0}"));
    submit(cluster, &names.iter().map(document).collect::<String>());
    submit(cluster, &job("behind-them", "count", "subtasks: {array: 0-2}"));
    reconciled(cluster, "behind-them", 3);
    let them: Vec<&str> = names.iter().map(String::as_str).collect();
    cluster.cli(&[&["job", "pause"], &them[..]].concat()).ok();
}
