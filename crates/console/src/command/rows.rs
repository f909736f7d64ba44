//! How the rows of nodes, members, modules, affinities, events and outcomes look.

use sheaf_model::Timestamp;
use sheaf_model::view::{AffinityRow, MemberRow, ModuleRow, NodeRow};

use crate::table::{Column, Listed};
use crate::{text, when};

impl Listed for NodeRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("NAME"),
        Column::new("STATUS"),
        Column::new("ROLE"),
        Column::new("ADDRESS"),
        Column::new("BUCKETS").number(),
        Column::new("LOAD").number(),
        Column::new("MEMORY").number(),
        Column::new("SINCE").number(),
        Column::new("ID").wide().number(),
        Column::new("HOSTNAME").wide(),
        Column::new("VERSION").wide(),
        Column::new("CPU").wide().number(),
        Column::new("LABELS").wide(),
        Column::new("MODULES").wide(),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let memory = format!("{}/{}", text::size(self.memory_used), text::size(self.memory_total));
        vec![
            self.name.clone(),
            self.status.clone(),
            role(self).to_owned(),
            self.address.clone(),
            self.buckets.to_string(),
            format!("{:.2}", self.load),
            if self.memory_total == 0 { "-".to_owned() } else { memory },
            when::age_of(now, Some(&self.since)),
            self.id.to_string(),
            self.hostname.clone(),
            self.version.clone(),
            self.cpu.to_string(),
            self.labels.join(","),
            if self.allowed_modules.is_empty() { "all".to_owned() } else { self.allowed_modules.join(",") },
        ]
    }
}

/// What a node is to the cluster, in a word.
pub(super) const fn role(row: &NodeRow) -> &'static str {
    match (row.leader, row.voter) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "-",
    }
}

impl Listed for AffinityRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("BUCKET"),
        Column::new("NODE"),
        Column::new("PHASE"),
        Column::new("SINCE").number(),
        Column::new("EPOCH").number(),
        Column::new("HOSTNAME").wide(),
        Column::new("WHY"),
    ];

    fn name(&self) -> String {
        self.bucket.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.bucket.clone(),
            self.node.clone(),
            self.phase.clone(),
            when::age_of(now, self.since.as_deref()),
            self.epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string()),
            self.hostname.clone(),
            self.why.clone(),
        ]
    }
}

impl Listed for MemberRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("NAME"),
        Column::new("ROLE"),
        Column::new("VOTER"),
        Column::new("LAG").number(),
        Column::new("ADDRESS"),
        Column::new("ID").wide().number(),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.name.clone(),
            self.role.clone(),
            if self.voter { "yes" } else { "no" }.to_owned(),
            self.match_lag.map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
            self.address.clone(),
            self.id.to_string(),
        ]
    }
}

impl Listed for ModuleRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("NAME"),
        Column::new("VERSION"),
        Column::new("NEWEST"),
        Column::new("RUNTIME"),
        Column::new("MULTI-NODE"),
        Column::new("BUCKETS").number(),
        Column::new("REVISION").wide().number(),
    ];

    fn name(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.name.clone(),
            self.version.clone(),
            if self.newest { "yes" } else { "" }.to_owned(),
            self.runtime.clone(),
            if self.supports_multi_node { "yes" } else { "no" }.to_owned(),
            self.buckets.to_string(),
            self.revision.to_string(),
        ]
    }
}
